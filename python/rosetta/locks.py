"""`make locks`: resolves the requirements of every environment again, for all platforms at once where the packages allow it.

torch stands in a lock for CPUs under its public version and without its CUDA packages: which build it is depends on the machine's device.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rosetta import environments
from rosetta.indexes import uv_environment

CUDA_OF_TORCH = re.compile(r"(nvidia-|cuda-|triton)")
OLDEST = {"harness": "3.10", "browser": "3.10", "julia": "3.10", "r": "3.10", "numpy": "3.10"}
"""Pythons of the environments that run on the harness's own."""


def main() -> None:
    for wanted in sorted(environments.REQUIREMENTS.glob("*.in")):
        resolve(wanted)


def resolve(wanted: Path) -> None:
    """Writes NAME.lock beside NAME.in."""
    name, _, variant = wanted.stem.partition("-")
    needs = environments.needs(name)
    python = OLDEST.get(name) or re.search(r"3\.\d+", needs.python).group()
    if environments.interpreters.Version(python) < environments.interpreters.UV_SUPPORTS:
        print(f"{wanted.name}: uv knows no Python {python}; its lock is kept as it is")
        return
    target = wanted.with_suffix(".lock")
    environment = uv_environment()
    if variant:  # a folder of wheels may hold a build for CPUs, which brings no CUDA
        environment.pop("UV_FIND_LINKS", None)
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder) / "build.txt"
        build.write_text("\n".join(needs.build) + "\n")
        platform = ["--python-platform", needs.only] if needs.only else ["--universal"]
        command = [
            environments.find_uv(),
            "pip",
            "compile",
            "-q",
            "--upgrade",
            "--no-header",
            "--no-annotate",
            "--no-strip-extras",
        ]
        command += [
            "--python-version",
            python,
            *platform,
            "--build-constraint",
            str(build),
            str(wanted),
            "-o",
            str(target),
        ]
        if subprocess.run(command, env=environment).returncode:
            sys.exit(f"{wanted.name} could not be resolved (see above); its lock is unchanged")
    lines = target.read_text().splitlines()
    if variant != "cuda13" and any(line.startswith("torch==") for line in lines):
        lines = [line for line in lines if not CUDA_OF_TORCH.match(line)]
        lines = [re.sub(r"^(torch==[0-9.]+).*", r"\1", line) for line in lines]
    target.write_text("\n".join(dict.fromkeys(lines)) + os.linesep)
    print(f"{target.name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
