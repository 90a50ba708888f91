"""Environments: the isolated sets of packages that legs run in, made by uv from locked requirements.

An environment is a pair of files in python/environments: NAME.in says what is wanted, NAME.lock what is installed. Those of Julia
and R hold the bridge's Python side; the language itself is provided by its toolchain module.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from rosetta import records
from rosetta.config import ROOT, Settings
from rosetta.indexes import has_wheel, uv_environment

REQUIREMENTS = ROOT / "python" / "environments"


def folder() -> Path:
    """Where environments are made: .environments in the checkout, or the folder that ROSETTA_ENVIRONMENTS names."""
    return Path(os.environ.get("ROSETTA_ENVIRONMENTS") or ROOT / ".environments")


def lock_sha256(name: str) -> str:
    return hashlib.sha256((REQUIREMENTS / f"{name}.lock").read_bytes()).hexdigest()


def toolchain(name: str):
    """The module that provides the language of an environment, or None for Python alone."""
    if name.startswith("julia"):
        from rosetta import julia_toolchain

        return julia_toolchain
    if name.startswith("r"):
        from rosetta import r_toolchain

        return r_toolchain
    return None


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
    return {
        "lock": lock_sha256(name),
        "deployment": settings.deployment,
        "device": settings.device,
        "python": sys.version.split()[0],
        "language": module.find() if module else None,
    }


def provide(name: str, settings: Settings, say: Callable[[str], None] = print) -> dict:
    """Makes an environment, or finds out why it can't be had. Never raises for something that is missing.

    Returns:
        {"status": "ready" or "unavailable", "reason", "python": interpreter, "lock", "toolchain": what the language's
        toolchain says, or None}.
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
            "lock": lock_sha256(name),
            "toolchain": None,
        }
        if reason:
            found.update(status="unavailable", reason=reason)
        elif module := toolchain(name):
            say(f"{name}: looking for the language and its bridge")
            found["toolchain"] = module.provide(python, file)
            found.update(status=found["toolchain"]["status"], reason=found["toolchain"]["reason"])
        return found


def provide_python(name: str, settings: Settings, log, say: Callable[[str], None]) -> tuple[str, str]:
    """(interpreter, "") of an environment that fits its lock, or ("", why there is none)."""
    # The builds for a GPU have a folder of their own: one device's set-up never touches what another one's leg is using.
    home = folder() / (name if settings.device == "cpu" else f"{name}-{settings.device}")
    marker = home / "rosetta.json"
    python = home / "bin" / "python"
    wanted = {"lock": lock_sha256(name), "device": settings.device, "base": sys.version.split()[0]}
    if marker.exists() and json.loads(marker.read_text()) == wanted and python.exists():
        return str(python), ""
    uv = find_uv()
    if uv is None:
        return "", "uv is missing; install it with `python3 -m pip install uv`, or set deployment: current"
    say(f"{name}: making the Python environment")
    environment = {**uv_environment(), **getattr(toolchain(name), "BUILD", {})}
    lock = ["-r", str(REQUIREMENTS / f"{name}.lock")]
    install = [uv, "pip", "install", "-q", "--compile-bytecode", "-p", str(python), *lock]
    attempts = [install]
    if "torch==" in (REQUIREMENTS / f"{name}.lock").read_text() and not has_wheel(environment, "torch"):
        # PyPI's torch brings gigabytes of CUDA; PyTorch's own index has a build for each device.
        attempts.insert(0, [*install, "--torch-backend", "cpu" if settings.device == "cpu" else "auto"])
    marker.unlink(missing_ok=True)
    made = run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(home)], log, environment)
    for attempt in attempts:
        made = made and run(attempt, log, environment)
        if made:
            records.write_text(marker, json.dumps(wanted))
            return str(python), ""
        made = True
    return "", f"the packages of python/environments/{name}.lock could not be installed: {last_line(Path(log.name))}"


def find_uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def run(command: list[str], log, environment: dict[str, str]) -> bool:
    log.write("$ " + " ".join(command) + "\n")
    log.flush()
    return (
        subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        ).returncode
        == 0
    )


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:200] if lines else 'no output'} (details in {log})"
