"""R for the legs in R: finds it, installs Debian's where it may, and proves that rpy2 can start it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from rosetta import debian, r_packages
from rosetta.config import ROOT

WANTS = "packages"
"""The field of environments.toml that says which packages legs want."""

BUILD = {"RPY2_CFFI_MODE": "ABI"}
"""Variables while the packages of the environment are installed: rpy2 then needs neither a compiler nor R itself."""

VARIABLES = ("ROSETTA_R", "R_REPOS", "ROSETTA_R_LIBRARY", "R_LIBS")
"""What the set-up reads: where one of them changes, it has to be done again."""

PACKAGES = ("r-base-core", "libopenblas0-pthread")
ELSEWHERE = (
    "R is missing; install R 4 with OpenBLAS (conda install -c conda-forge r-base, or r-project.org) and put it on PATH"
)
FAST_BLAS = ("openblas", "mkl", "blis", "atlas", "flexiblas", "accelerate")
CHECK_SECONDS = 60

CHECK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from rosetta.worker.r import R
r = R(sys.argv[2])
answer = r.call(r.rinterface.baseenv["sum"], 1, 1)[0]
print(json.dumps({"answer": answer, "rpy2": r.rpy2_version, "blas": r.openblas_config()}))
"""


def find() -> dict | None:
    """The R that ROSETTA_R names or that is on PATH, without starting it; None where there is none that answers.

    Returns:
        {"r": executable, "home": R_HOME, "version", "blas": file of the BLAS that libR is linked to, "" if it has its own
        or libR is no shared library}.
    """
    executable = shutil.which(os.environ.get("ROSETTA_R") or "R")
    if executable is None:
        return None
    home = first_line([executable, "RHOME"])
    if not home or not Path(home).is_dir():
        return None
    return {"r": executable, "home": home, "version": version(Path(home)), "blas": blas(library(Path(home)))}


def provide(python: str | None, log, packages: tuple[str, ...] = (), device: str = "cpu") -> dict:
    """Makes R usable from `python`, an interpreter with rpy2. Never raises for something that is missing.

    Args:
        packages: R's packages that the environment's legs load; the legs of an environment want the same ones.
        log: an open text file, for the output of what is run.

    Returns:
        {"status": "ready" or "unavailable", "reason", "warning", "bridge", "r", "home", "version", "rpy2", "blas",
        "environment": variables of a process in which rpy2 starts R}.
    """
    answer = {"status": "unavailable", "reason": "", "warning": "", "bridge": "rpy2", "environment": {}}
    found = find()
    if found is None:
        answer["reason"] = why_missing() or debian.install(PACKAGES, log, ELSEWHERE)
        found = find() if not answer["reason"] else None
        if found is None:
            return {**answer, "reason": answer["reason"] or "R was installed, but is not on PATH"}
    if found["blas"] and not is_fast(found["blas"]):
        remedy = mend_blas(found["blas"], log)
        found = find() or found
        if not is_fast(found["blas"]):
            answer["warning"] = f"R computes with {found['blas']}, several times slower than OpenBLAS; {remedy}"
    answer.update(found)
    if not library(Path(found["home"])).exists():
        return {**answer, "reason": f"{found['r']} has no libR.so, which rpy2 needs; build R with --enable-R-shlib"}
    if python is None:
        return {**answer, "reason": "there is no Python environment with rpy2"}
    if packages and (reason := r_packages.provide(packages, found, log)):
        return {**answer, "reason": reason}
    answer["environment"] = variables(found)
    checked = check(python, answer["environment"], log)
    blas_used = checked.get("blas") or found["blas"]
    return {**answer, **checked, "blas": blas_used, "status": "unavailable" if checked["reason"] else "ready"}


def variables(found: dict) -> dict[str, str]:
    """What a process needs before it loads rpy2. R's messages are in English: errors are told apart by their text."""
    home = found["home"]
    paths = [str(Path(home) / "lib"), *filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))]
    return {
        "R_HOME": home,
        "RPY2_CFFI_MODE": "ABI",
        "LD_LIBRARY_PATH": os.pathsep.join(dict.fromkeys(paths)),
        "LANGUAGE": "en",
        "R_LIBS": r_packages.libraries(r_packages.library(found["version"])),
    }


def check(python: str, environment: dict[str, str], log) -> dict:
    """{"reason": "", "rpy2": version, "blas": its own words}, or {"reason": why rpy2 cannot start R}."""
    command = [python, "-c", CHECK, str(ROOT / "python"), str(ROOT / "r" / "rosetta.R")]
    log.write(f"$ {python} -c '1 + 1 in R, by rpy2'\n")
    log.flush()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            timeout=CHECK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"rpy2 did not start R within {CHECK_SECONDS} s (log: {name_of(log)})"}
    except OSError as error:
        return {"reason": f"{python} does not start: {error.strerror}"}
    log.write(done.stdout + done.stderr)
    log.flush()
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0 and lines and (said := json.loads(lines[-1]))["answer"] == 2:
        return {"reason": "", "rpy2": said["rpy2"], "blas": said["blas"]}
    errors = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    last = errors[-1][:200] if errors else f"exit code {done.returncode}"
    return {"reason": f"rpy2 cannot start R: {last} (log: {name_of(log)})"}


def why_missing() -> str:
    """A line for an R that is there but does not answer; empty where there is none at all."""
    executable = shutil.which(os.environ.get("ROSETTA_R") or "R")
    if executable:
        return f"{executable} is no working R: `R RHOME` names no folder; repair it, or name another one in ROSETTA_R"
    if os.environ.get("ROSETTA_R"):
        return f"ROSETTA_R names {os.environ['ROSETTA_R']}, which is no program; correct it, or unset it"
    return ""


def mend_blas(path: str, log) -> str:
    """Installs OpenBLAS for a libR that takes Debian's libblas.so.3; returns what is left to do if that does not serve."""
    if Path(path).name.startswith("libRblas") or shutil.which("apt-get") is None:
        return "use an R that is linked to OpenBLAS"
    return (
        debian.install(PACKAGES[1:], log, ELSEWHERE)
        or "select OpenBLAS with `update-alternatives --config libblas.so.3-$(uname -m)-linux-gnu`"
    )


def is_fast(path: str) -> bool:
    """By the name of the file or of its folder: Debian has openblas-pthread/libblas.so.3."""
    return any(name in "/".join(Path(path).parts[-2:]).lower() for name in FAST_BLAS)


def library(home: Path) -> Path:
    return home / "lib" / "libR.so"


def version(home: Path) -> str:
    """R's version, from the description of its package base: starting R takes ten times as long."""
    description = home / "library" / "base" / "DESCRIPTION"
    lines = description.read_text(errors="replace").splitlines() if description.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Version:")), "")


def blas(library: Path) -> str:
    """The file behind libblas or libRblas that libR is linked to, with Debian's alternatives resolved."""
    if not library.exists() or shutil.which("ldd") is None:
        return ""
    done = subprocess.run(
        ["ldd", str(library)],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)},
    )
    for line in done.stdout.splitlines():
        name, _, target = line.strip().partition(" => ")
        if target and any(word in name for word in ("blas", "mkl", "blis")):
            return os.path.realpath(target.rpartition(" (")[0])
    return ""


def first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("WARNING")]
    return lines[0].strip() if done.returncode == 0 and lines else ""


def name_of(log) -> str:
    return getattr(log, "name", "the log")
