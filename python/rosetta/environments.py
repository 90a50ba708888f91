"""Environments: the isolated sets of packages that legs run in, made by uv from locked requirements.

An environment is a pair of files in python/environments: NAME.in says what is wanted, NAME.lock what is installed; NAME-cuda12 and
NAME-cuda13 are its variants for a GPU. environments.toml says what it needs besides: a version of Python, programs, libraries. Those of
Julia and R hold the bridge's Python side; the language itself is provided by its toolchain module.
"""

import functools
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from rosetta import debian, interpreters, machine, records
from rosetta.config import ROOT, Settings
from rosetta.frameworks import NO_GPU, Leg, discover, is_there, of_release, tomllib
from rosetta.indexes import has_wheel, uv_environment

REQUIREMENTS = ROOT / "python" / "environments"


@dataclass(frozen=True)
class Needs:
    """What an environment needs besides its packages; python/environments/environments.toml explains each field."""

    python: str = ">=3.10"
    only: str = ""
    build: tuple[str, ...] = ()
    libraries: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    toolchain: str = ""
    project: str = ""
    packages: tuple[str, ...] = ()
    # No part of an environment's situation, which compares what is printed: a new estimate makes no environment anew.
    download_mb: int = field(default=0, repr=False)
    disk_mb: int = field(default=0, repr=False)


@functools.cache
def table() -> dict[str, Needs]:
    entries = tomllib.loads((REQUIREMENTS / "environments.toml").read_text())
    return {
        name: Needs(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})
        for name, entry in entries.items()
    }


def needs(name: str) -> Needs:
    return table().get(name, Needs())


def folder() -> Path:
    """Where environments are made: .environments in the checkout, or the folder that ROSETTA_ENVIRONMENTS names."""
    return Path(os.environ.get("ROSETTA_ENVIRONMENTS") or ROOT / ".environments")


def lock(name: str, device: str) -> Path:
    """The lock that serves a device: on a GPU that of the newest CUDA that the driver and the environment both have."""
    if device == "cuda":
        for variant, least in (("cuda13", machine.CUDA_13), ("cuda12", 0)):
            path = REQUIREMENTS / f"{name}-{variant}.lock"
            if path.exists() and machine.cuda_version() >= least:
                return path
    return REQUIREMENTS / f"{name}.lock"


def lock_sha256(name: str, device: str = "cpu") -> str:
    return hashlib.sha256(lock(name, device).read_bytes()).hexdigest() if name else ""


def lock_of(name: str, settings: Settings) -> str:
    """Hash of the lock that a leg's packages come from; empty where they are whatever the interpreter at hand has."""
    return "" if settings.deployment == "current" else lock_sha256(name, settings.device)


def toolchain(name: str):
    """The module that provides the language of an environment, or None for Python alone."""
    module = needs(name).toolchain
    return importlib.import_module(f"rosetta.{module}") if module else None


def generation(name: str, settings: Settings, marker: Path) -> int:
    """A number that grows when the situation is no longer the one in which the marker was written.

    The situation itself would not do: making an environment changes it, by the R or Julia that is installed.
    """
    if not marker.exists():
        return 1
    made = json.loads(marker.read_text())
    gone = made["status"] == "ready" and not Path(made["python"]).exists()
    return made["generation"] + (gone or made["situation"] != situation(name, settings))


def situation(name: str, settings: Settings) -> dict:
    """The cheap facts that an environment depends on: when they change, it is made again."""
    module = toolchain(name)
    variables = getattr(module, "VARIABLES", ())
    return {
        "lock": lock_of(name, settings),
        **({"packages": at_hand(name)} if settings.deployment == "current" else {}),
        "needs": repr(needs(name)),
        "project": hashlib.sha256((ROOT / needs(name).project).read_bytes()).hexdigest() if needs(name).project else "",
        "deployment": settings.deployment,
        "device": settings.device,
        "python": sys.version.split()[0],
        "language": module.find() if module else None,
        **({"driver": machine.cuda_version()} if settings.device == "cuda" else {}),
        **{variable: os.environ[variable] for variable in variables if os.environ.get(variable)},
    }


def at_hand(name: str) -> dict[str, str]:
    """{library: package and version} of what the interpreter at hand has of an environment's libraries."""
    libraries = sorted({library for leg in legs_in(name) for library in leg.framework.libraries})
    packages = {library: sorted(set(distributions().get(library, ()))) for library in libraries}
    return {library: ", ".join(f"{it} {metadata.version(it)}" for it in found) for library, found in packages.items()}


distributions = functools.cache(metadata.packages_distributions)


def legs_in(name: str) -> list[Leg]:
    return [leg for leg in discover() if leg.framework.environment == name]


def provide(name: str, settings: Settings, say: Callable[[str], None] = print) -> dict:
    """Makes an environment, or finds out why it can't be had. Never raises for something that is missing.

    Returns:
        {"status": "ready" or "unavailable", "reason", "python": interpreter, "lock", "toolchain": what the language's
        toolchain says, or None, "variables": of the processes that run in it}.
    """
    folder().mkdir(parents=True, exist_ok=True)
    log = folder() / f"{name}.log"
    with FileLock(folder() / f"{name}.lock"), open(log, "a") as file:
        python, reason = sys.executable, ""
        if settings.deployment == "isolated":
            python, reason = provide_python(name, settings, file, say)
        found = {
            "name": name,
            "status": "ready",
            "reason": "",
            "python": python,
            "lock": lock_of(name, settings),
            "toolchain": None,
            "variables": {},
        }
        if settings.deployment == "isolated" and not reason:
            provide_programs(name, settings.device, python, file)
            found["variables"], reason = provide_libraries(name, file)
        if reason:
            found.update(status="unavailable", reason=reason)
        elif module := toolchain(name):
            say(f"{name}: looking for the language and its bridge")
            # With `current` the system is used as it is; a language's packages go into a folder of the checkout.
            with debian.untouched() if settings.deployment == "current" else nullcontext():
                found["toolchain"] = module.provide(python, file, getattr(needs(name), module.WANTS), settings.device)
            found.update(status=found["toolchain"]["status"], reason=found["toolchain"]["reason"])
        if (reason := found["reason"]) and reason != NO_GPU and not unfit_platform(needs(name).only):
            found["reason"] = f"{reason}; `{set_up(name, settings)}` tries again"
        return found


def set_up(name: str, settings: Settings) -> str:
    """The command that makes an environment, or tries again."""
    options = [f" -c device={settings.device}"] * (settings.device != "cpu")
    options += [f" -c deployment={settings.deployment}"] * (settings.deployment != "isolated")
    return f"rosetta setup {name}{''.join(options)}"


def interpreter(found: dict, settings: Settings) -> str:
    """The Python that the legs of an environment run in."""
    return sys.executable if settings.deployment == "current" else found["python"]


def lacking(leg: Leg, found: dict) -> str:
    """What a leg needs of its language that an environment's toolchain does not have, with the way out; empty where it has all."""
    chain = found["toolchain"] or {}
    return toolchain(leg.framework.environment).lacking(leg, chain) if chain.get("missing") else ""


def provide_python(name: str, settings: Settings, log, say: Callable[[str], None]) -> tuple[str, str]:
    """(interpreter, "") of an environment that fits its lock, or ("", why there is none)."""
    # The builds for a GPU have a folder of their own: one device's set-up never touches what another one's leg is using.
    home = folder() / (name if settings.device == "cpu" else f"{name}-{settings.device}")
    marker = home / "rosetta.json"
    python = home / "bin" / "python"
    if unfit := unfit_platform(needs(name).only):
        return "", unfit
    if settings.device == "cuda" and not machine.gpus():
        return "", NO_GPU
    uv = find_uv()
    if uv is None:
        return "", "uv is missing; install it with `python3 -m pip install uv`, or set deployment: current"
    base = interpreters.find(needs(name).python, uv, log)
    if base is None:
        wanted = needs(name).python.replace(".*", "").strip("=>")
        return (
            "",
            f"there is no Python {wanted} on PATH, in pyenv or from uv; `pyenv install {wanted}` brings one",
        )
    wanted = {
        "lock": lock_sha256(name, settings.device),
        "device": settings.device,
        "base": str(interpreters.version_of(base)),
    }
    if marker.exists() and json.loads(marker.read_text()) == wanted and python.exists():
        return str(python), ""
    say(f"{name}: making the Python environment")
    marker.unlink(missing_ok=True)
    environment = {**uv_environment(), **getattr(toolchain(name), "BUILD", {})}
    requirements = lock(name, settings.device)
    if not make(home, base, uv, log, environment):
        return "", f"{base} could not make an environment: {last_line(Path(log.name))}"
    for attempt in installations(name, settings.device, python, base, uv, environment):
        if debian.run(attempt, log, environment):
            if unfit := unfit_torch(python, requirements):
                return "", f"{unfit} (details in {log.name})"
            records.write_text(marker, json.dumps(wanted))
            return str(python), ""
    return "", f"the packages of {requirements.relative_to(ROOT)} could not be installed: {last_line(Path(log.name))}"


def unfit_torch(python: Path, requirements: Path) -> str:
    """Why the build of torch in an environment is not the one for its lock's CUDA; empty where it is, or where there is none.

    PyTorch has a package index for each CUDA, and uv takes the build for CPUs without a word where none of theirs can be had or fits.
    """
    cuda = requirements.stem.partition("-cuda")[2]
    if not cuda or "torch==" not in requirements.read_text():
        return ""
    ask = [str(python), "-c", "import torch; print(torch.version.cuda)"]
    done = subprocess.run(ask, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = done.stdout.strip()
    if found.partition(".")[0] == cuda:
        return ""
    build = {"": "no build that can be imported", "None": "its build for CPUs"}.get(
        found, f"its build for CUDA {found}"
    )
    return f"of torch came {build}, where this driver wants that for CUDA {cuda}: https://download.pytorch.org has to be reachable"


def unfit_platform(only: str) -> str:
    """Why the packages of an environment cannot run on this machine; empty where they can."""
    system, architecture = os.uname().sysname, os.uname().machine
    if only and (system != "Linux" or not only.startswith(architecture)):
        return f"its packages exist for Linux on {only.partition('-')[0]} alone, this is {system} on {architecture}"
    return ""


def make(home: Path, base: str, uv: str, log, environment: dict[str, str]) -> bool:
    """An empty environment: by uv, or by Python's own venv where uv no longer knows that version."""
    if interpreters.version_of(base) < interpreters.UV_SUPPORTS:
        return debian.run([base, "-m", "venv", "--clear", str(home)], log, environment)
    return debian.run([uv, "venv", "-q", "--clear", "-p", base, str(home)], log, environment)


def installations(
    name: str, device: str, python: Path, base: str, uv: str, environment: dict[str, str]
) -> list[list[str]]:
    """Commands of which one has to succeed."""
    requirements = lock(name, device)
    if interpreters.version_of(base) < interpreters.UV_SUPPORTS:
        return [[str(python), "-m", "pip", "install", "-q", "--no-deps", "-r", str(requirements)]]
    install = [uv, "pip", "install", "-q", "--compile-bytecode", "-p", str(python), "-r", str(requirements)]
    if needs(name).build:
        constraints = folder() / f"{name}-build.txt"
        records.write_text(constraints, "\n".join(needs(name).build) + "\n")
        install += ["--build-constraint", str(constraints)]
    locked = requirements.read_text()
    # PyPI's torch is the build for CUDA 13, gigabytes of it; PyTorch's own index has one for each device.
    if "torch==" in locked and "nvidia-" not in locked and not (device == "cpu" and has_wheel(environment, "torch")):
        return [[*install, "--torch-backend", "cpu" if device == "cpu" else "auto"], install]
    return [install]


def provide_programs(name: str, device: str, python: str, log) -> None:
    """Installs what the legs of an environment start besides Python, where it may; what is missing then stops only the legs that need it."""
    for framework in {leg.framework.name: leg.framework for leg in legs_in(name)}.values():
        for program, package in framework.programs_on(device).items():
            if not is_there(program, python):
                needed = (of_release(package, python),)
                log.write(debian.install(needed, log, f"{framework.title} needs {program}") + "\n")


def provide_libraries(name: str, log) -> tuple[dict[str, str], str]:
    """(variables by which the environment's shared libraries are found, "") or ({}, why one is missing)."""
    wanted = needs(name)
    for library, package in wanted.libraries.items():
        if find_library(library) is None:
            reason = debian.install((package,), log, f"the library {library} is missing; install it")
            if reason:
                return {}, reason
            if find_library(library) is None:
                return {}, f"{package} was installed, but has no {library}; an older release of Debian or Ubuntu has it"
    if not wanted.links:
        return {}, ""
    links = folder() / f"{name}-libraries"
    links.mkdir(exist_ok=True)
    for alias, library in wanted.links.items():
        (links / alias).unlink(missing_ok=True)
        (links / alias).symlink_to(find_library(library))
    paths = [str(links.resolve()), *filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))]
    return {"LD_LIBRARY_PATH": os.pathsep.join(paths)}, ""


def find_library(name: str) -> Path | None:
    """A shared library in the folders of the system."""
    folders = [
        Path("/usr/lib") / f"{os.uname().machine}-linux-gnu",
        Path("/usr/lib64"),
        Path("/usr/lib"),
        Path("/usr/local/lib"),
    ]
    return next((path for place in folders if (path := place / name).exists()), None)


def find_uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:200] if lines else 'no output'} (details in {log})"
