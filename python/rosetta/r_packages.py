"""R's packages for the legs that drive a library: Debian's where apt may install them, the rest from CRAN, into a library of the project's own.

Environment variables:
    R_REPOS: a CRAN mirror, or a folder with a package repository (file:///...); else R's own setting counts, else https://cloud.r-project.org.
    ROSETTA_R_LIBRARY: where the packages go; default .r/library in the checkout.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rosetta import debian, debian_sources, network
from rosetta.config import ROOT

CRAN = "https://cloud.r-project.org"
INSTALL_SECONDS = 3600

RETICULATE = ("rcpp", "rcpptoml", "matrix", "here", "jsonlite", "png", "rappdirs", "rlang", "withr")
KERAS3 = (
    *("generics", "magrittr", "zeallot", "fastmap", "glue", "cli", "processx", "yaml", "rstudioapi", "lifecycle"),
    *("base64enc", "whisker", "tidyselect", "backports"),
)
TORCH = ("r6", "bit64", "desc", "scales", "callr", "magrittr", "rlang", "withr", "cli", "glue", "jsonlite", "rcpp")


@dataclass(frozen=True)
class Package:
    """What is known of a package: the oldest version that serves, and Debian's packages of what it needs."""

    oldest: str
    debian: tuple[str, ...]
    suite: str = ""
    """The Debian suite whose source serves where CRAN cannot be reached; empty: none."""


KNOWN = {
    # 1.18 and 1.28, Debian bookworm's, crash in a process that Python started.
    "reticulate": Package("1.41", RETICULATE, suite="trixie"),
    "keras3": Package("1.5", (*RETICULATE, *KERAS3)),
    "torch": Package("0.13", TORCH),
}

LIBTORCH = "https://torch-cdn.mlverse.org"
"""Where R's torch downloads what computes; without it the package is of no use."""


def library(version: str) -> Path:
    """The folder of the project's own packages, apart for each release of R: what is compiled for one does not load in another."""
    root = Path(os.environ.get("ROSETTA_R_LIBRARY") or ROOT / ".r" / "library")
    return root / ".".join(version.split(".")[:2])


def libraries(own: Path) -> str:
    """R_LIBS: the project's own packages first, then those of the user's R_LIBS."""
    return os.pathsep.join([str(own), *filter(None, os.environ.get("R_LIBS", "").split(os.pathsep))])


def provide(packages: tuple[str, ...], found: dict, log) -> str:
    """Installs what is missing of `packages` into the library; "" or one line that says why that cannot be.

    Args:
        found: the R that r_toolchain.find() gave.
        log: an open text file.
    """
    folder = library(found["version"])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        for name in packages:
            if reason := ensure(name, found["r"], folder, log):
                return reason
    return ""


def ensure(name: str, r: str, folder: Path, log) -> str:
    known = KNOWN[name]
    if serves(name, r, folder, log):
        return torch_lacks(r, folder, log) if name == "torch" else ""
    if name == "torch" and not reachable(LIBTORCH):
        return (
            f"{LIBTORCH} cannot be reached, from which R's torch downloads libtorch; "
            "run `install.packages('torch'); torch::install_torch()` in R where it can be"
        )
    repository = mirror(r)
    from_cran = reachable(repository)
    if not from_cran and not known.suite:
        return f"R's package {name} is missing, and {repository} cannot be reached; name a CRAN mirror in R_REPOS"
    if debian.is_root():
        needed = ("r-base-dev", *(f"r-cran-{part}" for part in known.debian))
        debian.install(needed, log, "")  # CRAN has them too; they only take longer to compile
    if from_cran:
        program = f"install.packages('{name}', lib = '{folder}', repos = '{repository}', Ncpus = 2)"
        run(r, folder, program, log, INSTALL_SECONDS)
    else:
        log.write(f"{repository} cannot be reached: {name} from the sources of Debian {known.suite}\n")
        with tempfile.TemporaryDirectory() as work:
            try:
                source = debian_sources.unpacked(f"r-cran-{name}", known.suite, Path(work), log)
            except debian_sources.Failed as error:
                return f"R's package {name} is missing: {repository} cannot be reached, and Debian's source {error}"
            debian.run([r, "CMD", "INSTALL", f"--library={folder}", str(source)], log)
    if not serves(name, r, folder, log):
        return f"R's package {name} could not be installed (log: {getattr(log, 'name', 'the log')}); install.packages('{name}') in R may say more"
    return torch_lacks(r, folder, log) if name == "torch" else ""


def serves(name: str, r: str, folder: Path, log) -> bool:
    """Whether R loads a package that is new enough."""
    program = f"stopifnot(packageVersion('{name}') >= '{KNOWN[name].oldest}'); loadNamespace('{name}')"
    return run(r, folder, program, log, 120)


def torch_lacks(r: str, folder: Path, log) -> str:
    """Downloads libtorch where it is missing; why it cannot be had, or ""."""
    if run(r, folder, "stopifnot(torch::torch_is_installed())", log, 120):
        return ""
    run(r, folder, "torch::install_torch()", log, INSTALL_SECONDS)
    if run(r, folder, "stopifnot(torch::torch_is_installed())", log, 120):
        return ""
    return "R's torch is installed, but has no libtorch; run `torch::install_torch()` where its server can be reached"


def run(r: str, folder: Path, program: str, log, seconds: float) -> bool:
    """Whether an R program ends well, with the project's library first."""
    command = [r, "--vanilla", "--no-echo", "-e", program]
    environment = {**os.environ, "R_LIBS": libraries(folder), "TORCH_INSTALL": "0"}
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=seconds
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.write(f"{error}\n")
        return False
    return done.returncode == 0


def mirror(r: str) -> str:
    """The repository that packages come from."""
    if named := os.environ.get("R_REPOS"):
        return named
    done = subprocess.run([r, "--no-echo", "-e", "cat(getOption('repos')[['CRAN']])"], capture_output=True, text=True)
    own = done.stdout.strip().splitlines()[-1:] or [""]
    return own[0] if own[0].startswith(("http", "file:")) else CRAN


def reachable(repository: str) -> bool:
    """Whether a server answers, with whatever status, or a folder is there."""
    if repository.startswith("file:"):
        return Path(repository.removeprefix("file:").replace("///", "/")).is_dir()
    return network.answers(repository, any_status=True)
