"""apt with folders of its own: packages and sources of other Debian suites, verified, without root, nothing of the system touched."""

import os
import re
import shutil
import subprocess
from pathlib import Path

MIRRORS = ("http://deb.debian.org/debian", "http://archive.debian.org/debian")

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

SECONDS = 600
"""For one run of apt-get; its own network timeouts are much shorter."""


class Failed(Exception):
    """Something of Debian's can't be had; the message says why in one line."""


def require_tools() -> None:
    """Raises Failed where apt or Debian's keys are missing."""
    for tool in ("apt-get", "apt-config", "dpkg"):
        if shutil.which(tool) is None:
            raise Failed(f"{tool} is missing, this is not Debian or Ubuntu")
    if not KEYRING.exists():
        raise Failed(f"{KEYRING} is missing, which verifies the packages: apt-get install debian-archive-keyring")


def mirrors() -> list[str]:
    """The system's own mirror of Debian first, then the official ones."""
    own = []
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.is_file() and os.access(path, os.R_OK):
            lines = [
                line for line in path.read_text(errors="replace").splitlines() if not line.lstrip().startswith("#")
            ]
            own += re.findall(r"\bhttps?://[^\s\]]+/debian/?(?=\s|$)", "\n".join(lines))
    return list(dict.fromkeys(mirror.rstrip("/") for mirror in [*own, *MIRRORS]))


def configure(folder: Path, mirror: str, suite: str, kind: str = "deb") -> Path:
    """An apt configuration whose every path lies in `folder`; the system's settings for downloads (proxies) stay.

    Args:
        kind: `deb` for packages, `deb-src` for sources.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial", "preferences.d"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    sources = folder / "sources.list"
    sources.write_text(f"{kind} [signed-by={KEYRING} check-valid-until=no] {mirror} {suite} main\n")
    acquire = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True).stdout
    own = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": folder / "preferences.d",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "APT::Architectures": "",
        "APT::Sandbox::User": "root",  # the private folders may lie where the user _apt cannot look
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "15",
    }
    path = folder / "apt.conf"
    path.write_text(acquire + "".join(f'{name} "{value}";\n' for name, value in own.items()))
    return path


def unpacked(package: str, suite: str, work: Path, log) -> Path:
    """The folder of a source package's upstream archive, from the first mirror that has it. Raises Failed.

    Args:
        work: an empty folder.
        log: an open text file.
    """
    require_tools()
    for mirror in mirrors():
        environment = {
            **os.environ,
            "APT_CONFIG": str(configure(work / "apt", mirror, suite, "deb-src")),
            "LC_ALL": "C",
        }
        options = {"env": environment, "cwd": work, "stdout": log, "stderr": subprocess.STDOUT, "timeout": SECONDS}
        commands = (["update"], ["source", "--download-only", "--tar-only", package])
        try:
            fetched = all(subprocess.run(["apt-get", "-q", *words], **options).returncode == 0 for words in commands)
        except subprocess.TimeoutExpired as error:
            log.write(f"{error}\n")
            continue
        if fetched and (archive := next(work.glob("*.orig.tar.*"), None)):
            (work / "source").mkdir()
            shutil.unpack_archive(archive, work / "source")
            return next(iter((work / "source").iterdir()))
    raise Failed(f"could not be fetched from {' or '.join(mirrors())}")
