"""Every framework: proven, timed, and obedient. One pipeline run with one thread and small batches that many tests look at."""

import json
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from conftest import SAMPLE, records_of, required, rosetta, snakemake, variables
from rosetta import config, environments, isolation, records
from rosetta.frameworks import discover, select, unreachable
from rosetta.report.comparisons import SAME_LIBRARY

OTHERS = select(["julia/flux*", "julia/lux", "julia/knet", "r/keras", "r/mxnet", "r/torch"])
"""Legs of Julia and R that drive a library; tests/test_pipeline.py runs those without one."""
SETTINGS = (
    *("profile=smoke", "data=synthetic", "threads=1", "rounds=1"),
    "legs=" + ",".join(["python", *(leg.name for leg in OTHERS)]),
)
RECORDS = Path("reports/records/smoke/cpu-fp32")
PYTHON = [leg for leg in discover() if leg.framework.language == "python"]
LIVING = [leg for leg in PYTHON if not leg.framework.retired and "cpu" in leg.framework.devices]
SLOW = ("mlx", "tinygrad")
"""A picture takes them a tenth of a second."""

CHILDREN = 0.25
"""What the interpreter's own threads may take beside the one thread that a library was given, as a share of the wall time."""


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Path:
    """A folder in which the pipeline has run all frameworks once."""
    workdir = tmp_path_factory.mktemp("frameworks")
    # Two proofs of one thread each at a time; what is timed is alone in any case.
    done = snakemake("reports/summary.html", workdir=workdir, config=SETTINGS, timeout=4000, cores=2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workdir


def record(ran: Path, name: str) -> dict:
    return records.read(ran / RECORDS / f"{name}.json")


def made_for(ran: Path, leg) -> dict:
    """What the set-up of a leg's environment left."""
    return json.loads((ran / f"shared_data/environments/{leg.framework.environment}-cpu-isolated.json").read_text())


def excused(ran: Path, leg) -> str:
    """Why a leg's environment cannot be made on this machine; where ROSETTA_REQUIRE names it, that is no excuse."""
    made = made_for(ran, leg)
    return ("" if required(leg.framework.environment) else made["reason"]) or environments.lacking(leg, made)


def test_every_row_is_there(ran):
    table = pd.read_csv(ran / "reports/results.csv").set_index("leg")
    assert sorted(table.index) == sorted(leg.name for leg in [*PYTHON, *OTHERS])
    assert table.reason[table.status != "ok"].notna().all()


@pytest.mark.parametrize("leg", [*LIVING, *OTHERS], ids=lambda leg: leg.name)
def test_leg_is_proven_and_timed(leg, ran):
    found = record(ran, leg.name)
    if leg.framework.variant and found["status"] == "variant":
        return
    reason = excused(ran, leg)
    if reason:
        assert (found["status"], found["reason"]) == ("unavailable", reason)
        pytest.skip(reason)
    if missing := unreachable(leg, config.load({}), made_for(ran, leg)["python"]):
        assert (found["status"], found["reason"]) == ("unavailable", missing)
        pytest.skip(missing)
    assert (found["status"], found["reason"]) == ("ok", "")
    proof = found["proof"]["differences"]
    wanted = [precision for precision in ("fp64", "fp32") if precision in leg.framework.precisions]
    quantities = {("logits", 0), ("logits", 5), ("loss", 5), ("gradient", 1)} if leg.task.trained else {("features", 0)}
    compared = {(d["precision"], d["quantity"].split(" of ")[0], d["step"]) for d in proof}
    assert {(precision, *quantity) for precision in wanted for quantity in quantities} <= compared
    assert "fp64" in wanted or leg.framework.unsupported["fp64"]
    epochs = [phase for phase in found["rounds"][0]["phases"] if phase["phase"] == "epoch"]
    assert epochs[0]["seconds"] > 0
    if leg in LIVING:
        assert set(leg.framework.libraries) <= set(found["rounds"][0]["versions"])


@pytest.mark.parametrize(("name", "twin"), SAME_LIBRARY.items())
def test_a_library_computes_the_same_from_r_and_from_python(name, twin, ran):
    """Not close but equal, digit by digit: every step's loss, with the dropout of the cnn, too."""
    for leg in select([f"{name}/cnn", f"{name}/rnn"]):
        if reason := excused(ran, leg):
            pytest.skip(reason)
        pair = [record(ran, leg.name), record(ran, f"{twin}/{leg.task.name}")]
        from_r, from_python = ([phase.get("losses") for phase in it["rounds"][0]["phases"]] for it in pair)
        assert any(from_python)
        assert from_r == from_python
        assert pair[0]["proof"]["as_shipped"] == pair[1]["proof"]["as_shipped"], "a literal port is as far off from R"


@pytest.mark.parametrize("leg", LIVING, ids=lambda leg: leg.name)
def test_leg_keeps_to_its_one_thread(leg, ran):
    """Processor time over wall time: with one thread asked for, no library may keep two cores busy."""
    found = record(ran, leg.name)
    if found["status"] == "unavailable":
        pytest.skip(found["reason"])
    for phase in found["rounds"][0]["phases"]:
        if phase["phase"] == "epoch":
            assert phase["processor_seconds"] <= (1 + CHILDREN) * phase["seconds"] + 0.05, phase


@pytest.mark.parametrize("leg", [leg for leg in LIVING if leg.framework.as_shipped], ids=lambda leg: leg.name)
def test_what_a_literal_port_changes_is_measured(leg, ran):
    """Where the library's own form differs, the proof says by how much: more than the rounding of an exact leg."""
    found = record(ran, leg.name)
    if found["status"] == "unavailable":
        pytest.skip(found["reason"])
    drifts = {drift["step"]: drift["difference"] for drift in found["proof"]["as_shipped"]}
    if leg.task.name not in leg.framework.as_shipped:
        assert not drifts
        return
    assert set(drifts) == ({1, 5} if leg.task.trained else {0})
    exact = [
        d["difference"] for d in found["proof"]["differences"] if d["precision"] == "fp32" and d["step"] == max(drifts)
    ]
    assert drifts[max(drifts)] > 2 * max(exact)


def test_bfloat16_is_proven_wherever_a_library_has_it(ran):
    """In the GRU, where what is rounded goes into the next step; a library without it is refused, with exit code 3."""
    legs = [leg for leg in LIVING if leg.task.name == "rnn"]
    able = [leg.name for leg in legs if "bf16" in leg.framework.precisions and not excused(ran, leg)]
    settings = ("profile=smoke", "data=synthetic", "threads=1", "precision=bf16")
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(
            lambda names: rosetta("verify", *names, workdir=ran, config=settings), (able[::2], able[1::2])
        )
        for done in halves:
            assert done.returncode == 0, done.stdout + done.stderr
    done = rosetta("verify", "python/numpy/rnn", workdir=ran, config=settings)
    assert done.returncode == 3
    assert "no bf16" in " ".join(done.stdout.split())


def test_current_takes_whatever_library_is_importable(ran, tmp_path):
    """deployment: current, as on a cluster: PyTorch and JAX lie on PYTHONPATH, and the record names their versions and no lock."""
    leg = select(["python/pytorch/rnn"])[0]
    if reason := excused(ran, leg):
        pytest.skip(reason)
    python = made_for(ran, leg)["python"]
    ask = [python, "-c", "import sysconfig as s; print(s.get_python_version(), s.get_path('purelib'))"]
    version, packages = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
    if version != sysconfig.get_python_version():
        pytest.skip(f"its packages are for Python {version}, the interpreter at hand is {sys.version.split()[0]}")
    names = [leg.name, "python/jax/rnn"]
    settings = ("profile=smoke", "data=synthetic", "threads=1", "rounds=1", "deployment=current")
    done = rosetta("run", *names, workdir=tmp_path, config=settings, PYTHONPATH=packages)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        found = records.read(records_of(tmp_path, settings) / f"{name}.json")
        assert (found["status"], found["proof"]["provenance"]["lock_sha256"]) == ("ok", "")
        expected = {n: record(ran, name)["rounds"][0]["versions"][n] for n in select([name])[0].framework.libraries}
        assert found["rounds"][0]["versions"].items() >= expected.items()


START = """
import json, sys, time
import numpy as np
sys.path[:0] = [{root!r}]
from rosetta.worker.bridges import open_python
from rosetta.worker.job import open_weights
from rosetta.worker.measure import Clock
from types import SimpleNamespace

task = SimpleNamespace(**json.loads({task!r}))
leg = open_python({file!r}, {folders!r})
rng = np.random.default_rng(0)
order = np.arange(4 * task.batch)
model = leg.build(task, open_weights({weights!r}))
x = leg.place(model, rng.random((len(order), 3, 32, 32), np.float32) if task.name == "cnn" else rng.integers(0, 9, (len(order), 150)))
y = leg.place(model, rng.integers(0, 2, len(order)))
leg.train(model, x, y, order[: task.batch])
"""

QUEUE = """
leg.train(model, x, y, order)
with Clock(lambda: leg.synchronize(model)) as clock:
    for _ in range(4):
        losses = leg.train(model, x, y, order)
start = time.perf_counter()
np.asarray(losses, np.float64)
leg.weights(model)
print(json.dumps([clock.seconds, time.perf_counter() - start, clock.processor_seconds]))
"""
"""Fills a leg's queue with steps, takes the clock's time, and then asks for what the steps made."""

SHARES = """
from contextlib import suppress
from glob import glob

def ticks():
    found = {{}}
    for path in glob("/proc/self/task/*/stat"):
        with suppress(OSError):  # a thread that has just ended
            words = open(path).read().rpartition(")")[2].split()
            found[path] = int(words[11]) + int(words[12])
    return found

before = ticks()
for _ in range(2):
    leg.train(model, x, y, order)
leg.synchronize(model)
spent = sorted((count - before.get(path, 0) for path, count in ticks().items()), reverse=True)
print(json.dumps([count / sum(spent) for count in spent + [0]]))
"""
"""Shares of the processor time of two epochs that each thread took, the largest first: utime and stime of proc_pid_stat(5)."""

GRAPHS = """
from torch._dynamo.utils import counters
first = counters["stats"]["unique_graphs"]
leg.train(model, x, y, order[: 3 * task.batch])
leg.load(model, open_weights({weights!r}))
leg.train(model, x, y, order)
print(json.dumps([first, counters["stats"]["unique_graphs"]]))
"""


def answer(leg, code: str, ran: Path, batch=16, threads=1) -> list:
    """What a piece of code prints as JSON, run behind START in a leg's environment; four batches are an epoch."""
    made = made_for(ran, leg)
    if reason := excused(ran, leg) or unreachable(leg, config.load({}), made["python"]):
        pytest.skip(reason)
    fields = {"batch": batch, "precision": "fp32", "device": "cpu", "threads": threads}
    text = (START + code).format(
        root=str(config.ROOT / "python"),
        task=json.dumps(leg.for_worker(**fields)),
        file=str(leg.file),
        folders=leg.framework.shared_folders,
        weights=str((ran / "shared_data" / leg.task.name / "weights").resolve()),
    )
    environment = isolation.variables(threads, "cpu", {**made["variables"], **leg.framework.variables_for(threads)})
    done = subprocess.run([made["python"], "-c", text], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(
    "name",
    ["jax", "keras-jax", "keras-tensorflow", "mxnet-gluon", "mxnet-module", "mlx", "pytorch", "tensorflow", "tinygrad"],
)
def test_synchronize_waits_for_all_that_is_queued(name, ran):
    """A leg whose queue is full reports no shorter time than its work takes: behind the clock nothing is left to wait for."""
    # A few pictures are work enough for the slow ones.
    clocked, behind, processor = answer(select([f"python/{name}/cnn"])[0], QUEUE, ran, 4 if name in SLOW else 16)
    assert behind < clocked / 4, (clocked, behind)
    # One thread does the work: the clock saw all of it, too.
    assert clocked > 0.7 * processor


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processor time of single threads is Linux's to tell")
@pytest.mark.parametrize(
    "name", ["caffe2", "chainer", "cntk", "jax", "keras-jax", "mxnet-gluon", "numpy", "paddle", "pytorch", "tensorflow"]
)
def test_leg_uses_both_threads_that_it_is_given(name, ran):
    """The setting is no bound alone: a second thread has a part in the work. On a CPU, MLX and tinygrad have but one."""
    leg = select([f"python/{name}/cnn"])[0]
    shares = {threads: answer(leg, SHARES, ran, 32, threads)[1] for threads in (1, 2)}
    assert shares[2] > 0.15, shares
    assert shares[1] < shares[2] / 2, shares


@pytest.mark.parametrize("task", ["cnn", "rnn"])
def test_what_is_called_compiled_is_compiled_once(task, ran):
    """A model that the compiler passes over runs eagerly without a word; one that it compiles again does so inside an epoch."""
    first, later = answer(select([f"python/pytorch-compile/{task}"])[0], GRAPHS, ran)
    assert first >= 1
    assert later == first


def test_the_harness_is_compared_with_a_bare_loop(ran):
    """benchmarks/overhead.py: says both times and their ratio, within one process and apart, and leaves no record."""
    history = (ran / "reports/history.jsonl").read_text()
    command = [sys.executable, str(config.ROOT / "benchmarks/overhead.py"), "python/numpy/rnn", "--rounds", "1"]
    settings = ("profile=smoke", "data=synthetic", "threads=1", "work.rnn.epochs=3")
    command += [word for setting in settings for word in ("-c", setting)]
    for more in ([], ["--apart"]):
        done = subprocess.run([*command, *more], env=variables(ran), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        name, harness, bare, ratio, low, _, high, _ = done.stdout.splitlines()[-1].split()
        assert name == "python/numpy/rnn"
        assert all(float(number) > 0 for number in (harness, bare, ratio))
        assert float(low) <= float(high)
    assert (ran / "reports/history.jsonl").read_text() == history
    # A leg that cannot be compared says why, and the others go on.
    more = ["python/numpy/cnn", "-c", "work.cnn.epochs=1"]
    done = subprocess.run([*command, *more], env=variables(ran), capture_output=True, text=True, timeout=600)
    first, second = done.stdout.splitlines()[1:]
    assert first.startswith("python/numpy/cnn")
    assert "two epochs are the least" in first
    assert float(second.removeprefix("python/numpy/rnn").split()[2]) > 0


def test_a_retired_framework_has_its_row_its_fate_and_its_figures(ran):
    for leg in PYTHON:
        if leg.framework.retired:
            found = record(ran, leg.name)
            assert found["status"] == "retired"
            assert "Published in 2018" in found["reason"]
            assert "DeepLearningFrameworks@" in found["reason"]
    assert {"theano", "lasagne"} <= {leg.framework.name for leg in PYTHON if leg.framework.retired}


def test_rows_of_the_same_files_are_different_frameworks():
    rows = {}
    for leg in LIVING:
        rows.setdefault((leg.framework.folder, leg.task.name), []).append(leg.framework)
    for frameworks in rows.values():
        settings = [(framework.variables, framework.options) for framework in frameworks]
        assert all(settings.count(setting) == 1 for setting in settings)
    assert len(rows[(select(["python/keras-jax/cnn"])[0].framework.folder, "cnn")]) == 3


def test_leg_files_stay_short_and_parallel():
    """About 120 lines, no harness code, and the same parts in the same order, so that two files can be laid side by side."""
    parts = {True: ["Build", "Load", "Place", "Train", "Predict", "Weights"], False: ["Build", "Place", "Predict"]}
    for leg in LIVING:
        if leg.framework.name == "numpy":  # its layers are the leg: there is no library to take them from
            continue
        lines = leg.file.read_text().splitlines()
        assert len(lines) <= 130, (leg.name, len(lines))
        found = [line[2:].partition(":")[0] for line in lines if line.startswith("# ")]
        assert [name for name in found if name in parts[leg.task.trained]] == parts[leg.task.trained], leg.name
        assert not any(
            word in "\n".join(lines) for word in ("import time", "open(", "argparse", "rosetta", "print(")
        ), leg.name


def test_the_sample_legs_are_among_them():
    assert {leg.name for leg in select(SAMPLE.split(",")) if leg.framework.language == "python"} < {
        leg.name for leg in LIVING
    }
