"""Debian's and Ubuntu's packages, installed where this process may."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from contextvars import ContextVar

from filelock import FileLock

LOCK = "/var/lib/apt/rosetta.lock"
"""Two environments may be made at once, and apt-get waits for another one's installation but not for its package lists."""


AS_IT_IS = ContextVar("whether the system is left as it is", default=False)


@contextmanager
def untouched():
    """Within it nothing is installed, whoever this is."""
    token = AS_IT_IS.set(True)
    try:
        yield
    finally:
        AS_IT_IS.reset(token)


def install(packages: tuple[str, ...], log, elsewhere: str) -> str:
    """Installs packages; returns "", or one line that says why not and what to do.

    Args:
        log: an open text file, for the output of apt-get.
        elsewhere: what to do on a system without apt-get.
    """
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        return elsewhere
    if AS_IT_IS.get():
        return f"{packages[0]} is missing, and with deployment=current nothing is installed; `apt-get install {names}` brings it"
    if not is_root():
        return f"{packages[0]} is missing; install it with `sudo apt-get install {names}`"
    attempt = ["apt-get", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages]
    with FileLock(LOCK):
        # The package lists may be missing or old: then the first attempt fails.
        if run(attempt, log) or (run(["apt-get", "update"], log) and run(attempt, log)):
            return ""
    return f"`apt-get install {names}` failed (log: {getattr(log, 'name', 'the log')}); install it by hand"


def is_root() -> bool:
    return os.geteuid() == 0


def run(command: list[str], log, environment: dict[str, str] | None = None) -> bool:
    """Runs a command with its output in the log; whether it ended well."""
    log.write("$ " + " ".join(command) + "\n")
    log.flush()
    environment = {**(environment or os.environ), "DEBIAN_FRONTEND": "noninteractive"}
    options = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "env": environment}
    return subprocess.run(command, **options).returncode == 0
