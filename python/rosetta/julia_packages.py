"""Julia projects: which packages one asks for, and which are installed in one."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from rosetta.frameworks import tomllib

BRIDGE_PACKAGE = "PythonCall"
"""The Julia side of juliacall."""


@dataclass(frozen=True)
class Wanted:
    """Packages {name: (uuid, bounds of its version)}, and the Julia that they run on."""

    julia: str
    packages: dict[str, tuple[str, str]]

    def runs_on(self, version: str) -> bool:
        """Whether a Julia, by its version, is within the bounds, of which the first and the last number count: "1.10 - 1.12", "~1.10"."""
        bounds = [tuple(map(int, found)) for found in re.findall(r"(\d+)\.(\d+)", self.julia)]
        return bounds[0] <= tuple(map(int, version.split(".")[:2])) <= bounds[-1]

    def for_juliapkg(self) -> str:
        """The text of a juliapkg.json."""
        packages = {name: {"uuid": uuid, "version": bounds} for name, (uuid, bounds) in self.packages.items()}
        return json.dumps({"julia": self.julia, "packages": packages}, indent=1) + "\n"

    def for_pkg(self) -> str:
        """The text of a Project.toml. PythonCall may be any version: juliacall is made the same one."""
        lines = ["[deps]", *(f'{name} = "{uuid}"' for name, (uuid, _) in self.packages.items()), "", "[compat]"]
        lines += [f'{name} = "{bounds}"' for name, (_, bounds) in self.packages.items() if name != BRIDGE_PACKAGE]
        return "\n".join([*lines, f'julia = "{self.julia}"', ""])


def wanted_packages(project: Path, device: str) -> Wanted:
    """What a Project.toml asks for: its [deps], and on a GPU its [extras], which are CUDA and cuDNN."""
    table = tomllib.loads(project.read_text())
    named = {**table["deps"], **(table.get("extras", {}) if device == "cuda" else {})}
    return Wanted(table["compat"]["julia"], {name: (uuid, table["compat"][name]) for name, uuid in named.items()})


def loaded_packages(file: Path) -> set[str]:
    """The packages that a leg's file loads, itself or by the files that it includes."""
    text = file.read_text()
    lines = re.findall(r"^(?:using|import) ([\w, ]+)", text, re.MULTILINE)
    included = re.findall(r'^include\("(.+)"\)', text, re.MULTILINE)
    return set(re.findall(r"\w+", " ".join(lines))).union(*(loaded_packages(file.parent / path) for path in included))


def installed_packages(project: str | Path) -> dict[str, str]:
    """{name: version} in the Manifest of a project, the packages that its own depend on included; empty where it has none."""
    folder = Path(project) if Path(project).is_dir() else Path(project).parent
    manifests = [*sorted(folder.glob("Manifest-v*.toml"), reverse=True), folder / "Manifest.toml"]
    manifest = next((path for path in manifests if path.exists()), None)
    if manifest is None:
        return {}
    table = tomllib.loads(manifest.read_text())
    entries = table.get("deps", table)
    return {name: entry[0].get("version", "") for name, entry in entries.items() if isinstance(entry, list)}


def direct_packages(project: str | Path) -> set[str]:
    """The packages that a project's code may load: those of its own [deps], where they are installed."""
    folder = Path(project) if Path(project).is_dir() else Path(project).parent
    named = next((path for name in ("JuliaProject.toml", "Project.toml") if (path := folder / name).exists()), None)
    return set(tomllib.loads(named.read_text()).get("deps", {})) & set(installed_packages(folder)) if named else set()
