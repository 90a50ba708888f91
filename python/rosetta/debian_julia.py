"""Debian's Julia 1.5.3 (suite bullseye) in a folder of its own, for machines where no other Julia can be had.

apt downloads into private folders with verified signatures, dpkg -x unpacks: no root, nothing of the system is touched.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from rosetta.debian_sources import SECONDS, Failed, configure, mirrors, require_tools

PACKAGES = ["julia", "libunwind8"]

NOT_UNPACKED = ("libc6", "libc-bin", "dpkg", "tar", "perl-base", "debconf", "gcc-10-base")
"""The system's own serve: a second glibc beside the system's dynamic linker crashes, the others are tools."""

LIBRARIES = ("usr/lib/{triplet}", "lib/{triplet}")


def find(prefix: Path) -> dict | None:
    """{"julia", "version", "origin", "environment"} of what `install` left at `prefix`, or None."""
    marker = prefix / "rosetta.json"
    if not marker.exists():
        return None
    found = json.loads(marker.read_text())
    folders = [str(prefix / folder.format(triplet=found["triplet"])) for folder in LIBRARIES]
    # Bullseye's libunwind first: with a newer one the first exception ends Julia without a word.
    return {
        "julia": str(prefix / "usr" / "bin" / "julia"),
        "version": found["version"],
        "origin": "Debian bullseye",
        "environment": {"LD_LIBRARY_PATH": os.pathsep.join(folders)},
    }


def install(prefix: Path, log) -> dict:
    """Downloads and unpacks into `prefix`, all or nothing; what `find` gives. Raises Failed.

    `log` has write(text) and run(command, seconds, environment) -> (exit code, standard output).
    """
    prefix = prefix.absolute()
    require_tools()
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{prefix}.lock"), tempfile.TemporaryDirectory(dir=prefix.parent, prefix=".unpacking-") as work:
            if found := find(prefix):  # made by another set-up while this one waited
                return found
            archives = download(Path(work), log)
            made = unpack(archives, Path(work) / "prefix", log)
            shutil.rmtree(prefix, ignore_errors=True)
            os.replace(made, prefix)
    except OSError as error:
        raise Failed(f"{prefix} cannot be written: {error.strerror or error}") from error
    return find(prefix)


def download(work: Path, log) -> list[Path]:
    """The packages of Julia and all they need, from the first mirror that has them."""
    reasons = []
    for mirror in mirrors():
        environment = {"APT_CONFIG": str(configure(work / "apt", mirror, "bullseye")), "LC_ALL": "C"}
        code, _ = log.run(["apt-get", "-q", "update"], SECONDS, environment)
        if code == 0:
            install = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "install", *PACKAGES]
            code, _ = log.run(install, SECONDS, environment)
        archives = sorted((work / "apt" / "cache" / "archives").glob("*.deb"))
        if code == 0 and any(archive.name.startswith("julia_") for archive in archives):
            return archives
        reasons.append(mirror)
    raise Failed(f"apt-get could not fetch it from {' or '.join(reasons)}, details in the log")


def unpack(archives: list[Path], prefix: Path, log) -> Path:
    """The archives' files under `prefix`, with a marker that says what they are."""
    prefix.mkdir()
    for archive in archives:
        if (
            archive.name.split("_")[0] not in NOT_UNPACKED
            and log.run(["dpkg", "-x", str(archive), str(prefix)], SECONDS)[0]
        ):
            raise Failed(f"{archive.name} could not be unpacked, details in the log (is the disk full?)")
    library = next(prefix.glob("usr/lib/*/libjulia.so.1"), None)
    julia = next((archive.name.split("_")[1] for archive in archives if archive.name.startswith("julia_")), "")
    if library is None or not (prefix / "usr" / "bin" / "julia").exists():
        raise Failed("the packages hold no julia, details in the log")
    version = re.match(r"\d+\.\d+\.\d+", julia).group()
    packages = [archive.stem for archive in archives]
    marker = {"version": version, "triplet": library.parent.name, "packages": packages}
    (prefix / "rosetta.json").write_text(json.dumps(marker, indent=1) + "\n")
    return prefix
