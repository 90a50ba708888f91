"""What several tests share: the command line as a process, and one small pipeline run that many of them look at."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rosetta import cli, config, environments, julia_toolchain
from rosetta.config import ROOT
from rosetta.frameworks import Leg, select
from rosetta.plan import Plan

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores Ctrl-C for what it starts in the background, and every child would inherit that; some tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SAMPLE = "python/numpy,python/pytorch/rnn,python/pytorch/resnet50,python/keras-tensorflow/rnn,julia/base,r/base"
"""Legs of three languages for the tests of the pipeline itself; tests/test_frameworks.py runs every other one."""
SMOKE = ("profile=smoke", "data=synthetic", f"legs={SAMPLE}")
WHOLE_PROOF = ("profile=quick", "data=synthetic", "proof=whole", "threads=1")
"""20 steps at the published batch size, two legs at a time on two cores."""
THOROUGH = {"ran", "prepared", "seen", "beside_stand_ins"}
"""Fixtures that take minutes: `make test` leaves out what needs them, `make test-all` does not."""


def pytest_collection_modifyitems(items):
    for item in items:
        if THOROUGH & set(item.fixturenames):
            item.add_marker("thorough")


def sample_legs() -> list[Leg]:
    return select(SAMPLE.split(","))


def required(environment: str) -> bool:
    """Whether ROSETTA_REQUIRE names it: whatever keeps it from running is then no excuse."""
    return environment in os.environ.get("ROSETTA_REQUIRE", "").split()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A variable of the person who runs the tests must not steer them."""
    for name in ("ROSETTA_CONFIG", "ROSETTA_WORKDIR"):
        monkeypatch.delenv(name, raising=False)


def variables(workdir: Path, **extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("ROSETTA_CONFIG", "ROSETTA_DATA_DIR")}
    return {**kept, "ROSETTA_WORKDIR": str(workdir), "COLUMNS": "200", **extra}


def command(*arguments: str, config=()) -> list[str]:
    """The command line under KEY=VALUE settings."""
    options = [word for setting in config for word in ("-c", setting)]
    return [sys.executable, "-m", "rosetta.cli", *arguments, *options]


def rosetta(*arguments: str, workdir: Path, config=(), timeout=600, **extra: str) -> subprocess.CompletedProcess:
    """Runs the command line in a process of its own, as a user would."""
    return subprocess.run(
        command(*arguments, config=config),
        env=variables(workdir, **extra),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def records_of(workdir: Path, settings=()) -> Path:
    """The folder of the records that the command line writes under these settings."""
    return workdir / Plan.of(cli.settings(list(settings)), apart=True).records


def pipeline(*arguments: str, workdir: Path, config=SMOKE, cores=1) -> list[str]:
    """The command that runs the pipeline in a folder of its own."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(workdir)]
    return [*command, "--cores", str(cores), *arguments, "--config", *config]


def snakemake(
    *arguments: str, workdir: Path, config=SMOKE, timeout=3000, cores=1, **extra: str
) -> subprocess.CompletedProcess:
    """Runs the pipeline to its end."""
    run = pipeline(*arguments, workdir=workdir, config=config, cores=cores)
    return subprocess.run(run, env=variables(workdir, **extra), capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def environment():
    """Gives an environment by its name, made if it has to be: {"status", "reason", "python", "toolchain"}."""
    settings = config.load({})
    return functools.cache(lambda name: environments.provide(name, settings))


@pytest.fixture(scope="session")
def preparation(request, tmp_path_factory):
    """Makes what the whole proofs read, a minute or two of one core, beside Julia's tests, which keep but one busy: (process, folder)."""
    if not any("prepared" in item.fixturenames for item in request.session.items):
        yield
        return
    workdir = tmp_path_factory.mktemp("proofs")
    with open(workdir / "prepare.log", "w") as log:
        prepare = command("prepare", config=WHOLE_PROOF)
        process = subprocess.Popen(prepare, env=variables(workdir), stdout=log, stderr=subprocess.STDOUT)
    yield process, workdir
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def prepared(preparation) -> Path:
    """A folder with the data, weights and golden values of the whole proofs."""
    process, workdir = preparation
    assert process.wait(900) == 0, (workdir / "prepare.log").read_text()
    return workdir


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """A folder in which the whole pipeline has run once: profile smoke, synthetic data."""
    workdir = tmp_path_factory.mktemp("smoke")
    # Two environments at a time; a proof and a round have both cores for themselves.
    done = snakemake("reports/summary.html", workdir=workdir, cores=2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workdir


@pytest.fixture(scope="session")
def toolchain(tmp_path_factory) -> dict:
    """A plain julia at hand, as the set-up would use it; nothing is downloaded for a test."""
    if julia_toolchain.find() is None and not required("julia"):
        pytest.skip("no Julia here: `rosetta setup julia` or ROSETTA_JULIA gives one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROSETTA_JULIA_BRIDGE", "julia")
        found = julia_toolchain.provide(None, tmp_path_factory.mktemp("julia") / "log")
    assert found["status"] == "ready", found["reason"]
    return found
