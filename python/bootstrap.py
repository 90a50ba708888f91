"""Makes .venv with the harness in it: `python3 python/bootstrap.py`. Standard library only, Python 3.10 or newer.

Done again only when the lock, the project file or the interpreter has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))

VENV = ROOT / ".venv"
LOCK = ROOT / "python" / "environments" / "harness.lock"


def stop(message):
    sys.exit(f"bootstrap: {message}")


def make_venv():
    """A virtual environment with pip; Debian keeps the pieces for it in a package of its own."""
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop(
            f"Python cannot make virtual environments here; install {package} (on Debian and Ubuntu: sudo apt-get install {package}) and try again"
        )
    quiet = {"stdin": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "-qq", "update"], **quiet)
    if subprocess.run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", package], **quiet).returncode:
        stop(f"apt-get could not install {package}; install it by hand and try again")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        stop(
            f"Python cannot make a virtual environment in {VENV}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )


def main():
    if sys.version_info < (3, 10):
        stop(
            f"Python 3.10 or newer is needed, this is {sys.version.split()[0]} ({sys.executable}); run make PYTHON=/path/to/python3.11 ..."
        )
    from rosetta.indexes import uv_environment  # of Python 3.10, as all of the harness

    wanted = hashlib.sha256(
        LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + f"{sys.version} {VENV}".encode()
    ).hexdigest()
    marker = VENV / "rosetta.sha256"
    if marker.exists() and marker.read_text() == wanted:
        return
    print("Setting up the harness in .venv (once; needs a package index)", flush=True)
    uv, own = shutil.which("uv"), str(VENV / "bin" / "python")
    if uv and VENV not in Path(uv).parents:
        steps = [[uv, "venv", "-q", "--seed", "--clear", "-p", sys.executable, str(VENV)]]
    else:
        make_venv()
        uv = str(VENV / "bin" / "uv")
        steps = [[own, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv>=0.9"]]
    # Compiled once here, so that no start of a command pays for it, even where Python may not write next to its sources.
    steps.append([uv, "pip", "install", "-q", "--compile-bytecode", "-p", own, "-r", str(LOCK)])
    steps.append([uv, "pip", "install", "-q", "-p", own, "--no-deps", "-e", str(ROOT)])
    environment = uv_environment(own if Path(own).exists() else sys.executable)
    for step in steps:
        if subprocess.run(step, env=environment, stdin=subprocess.DEVNULL).returncode:
            stop(
                f"`{' '.join(step)}` failed (see above); check the network or pip's and uv's index settings, then run make again"
            )
    marker.write_text(wanted)


if __name__ == "__main__":
    main()
