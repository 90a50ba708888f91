"""Python interpreters for environments whose packages have builds for some versions only."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from rosetta import debian

UV_SUPPORTS = Version("3.8")
"""uv makes no environment for an older Python; the interpreter's own venv and pip do."""


def find(wanted: str, uv: str | None, log) -> str | None:
    """An interpreter whose version fits `wanted`, such as "==3.9.*": this one, else one of PATH, pyenv or uv, else one that uv can download."""
    fits = SpecifierSet(wanted)
    for candidate in candidates():
        version = version_of(candidate)
        if version and version in fits:
            return candidate
    return downloaded(wanted, fits, uv, log) if uv else None


def candidates():
    """Interpreters of this machine, the harness's own first and then the newest."""
    yield sys.executable
    minors = range(20, 4, -1)
    for minor in minors:
        if found := shutil.which(f"python3.{minor}"):
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from map(str, sorted(pyenv.glob("3.*/bin/python"), key=numbers, reverse=True))


def numbers(python: Path) -> list[int]:
    """The numbers in the name of a version's folder, 3.9.18 after 3.9.2."""
    return [int(word) for word in re.findall(r"\d+", python.parts[-3])]


@functools.cache
def version_of(python: str) -> Version | None:
    """The version that an interpreter says it has; None for one that does not start, such as a shim of pyenv."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Version(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None


def downloaded(wanted: str, fits: SpecifierSet, uv: str, log) -> str | None:
    """An interpreter that uv manages, downloaded if it can be."""
    newest = next((f"3.{minor}" for minor in range(13, 7, -1) if Version(f"3.{minor}.1") in fits), None)
    if newest is None:
        return None
    find_it = [uv, "python", "find", "--managed-python", newest]
    for attempt in (find_it, [uv, "python", "install", "-q", newest]):
        if debian.run(attempt, log):
            found = subprocess.run(find_it, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            return found.stdout.strip() or None
    return None
