"""A worker's process: whatever a leg does, the harness gets its answer and everything that was measured before."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from rosetta import data, isolation
from rosetta.tasks import TASKS
from rosetta.worker.measure import steps_of_calls

LEG = """
import os, signal, sys, time
import numpy as np

{setup}

def build(task, weights):
    {build}
    return {{"w": {{name: np.array(array) for name, array in weights.items()}}}}

def load(model, weights):
    model["w"] = dict(weights)

def place(model, array):
    return np.array(array)

def train(model, x, y, order):
    {train}
    return [1.0] * (len(order) // 4)

def predict(model, x):
    return np.zeros((len(x), 10))

def weights(model):
    return model["w"]

def synchronize(model):
    {synchronize}
"""


@pytest.fixture
def attempt(tmp_path):
    """Runs a leg whose verbs are given as lines of code; gives the outcome."""
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.random((8, 3, 32, 32), np.float32), "y_train": rng.integers(0, 10, 8)}
    arrays.update(x_test=arrays["x_train"], y_test=arrays["y_train"])
    data.write_arrays(tmp_path / "arrays", arrays.items(), {})
    data.write_arrays(tmp_path / "weights", {"w": np.zeros(3, np.float32)}.items(), {})

    def run(timeout=60.0, listen=lambda event: None, warm_up=1, budget=None, scoring=None, **lines):
        code = {"setup": "", "build": "pass", "train": "pass", "synchronize": "pass", **lines}
        (tmp_path / "leg.py").write_text(LEG.format(**code))
        job = {
            "verb": "measure",
            "bridge": "python",
            "toolchain": {},
            "root": str(tmp_path),
            "file": str(tmp_path / "leg.py"),
            "folders": [],
            "libraries": ["numpy"],
            "task": TASKS["cnn"].for_worker(batch=4, precision="fp32", device="cpu", threads=1, dropout=True),
            "data": str(tmp_path / "arrays"),
            "weights": str(tmp_path / "weights"),
            "samples": 8,
            "epochs": 2,
            "test_samples": 8,
            "warm_up": warm_up,
            "budget_seconds": budget,
            "scoring_seconds": scoring,
        }
        environment = isolation.variables(1, "cpu", {})
        return isolation.run(sys.executable, job, environment, tmp_path / "leg.log", timeout, listen)

    return run


def phases(outcome):
    return [event["phase"] for event in outcome.of("phase")]


def test_a_good_leg_gives_every_phase_in_order(attempt):
    outcome = attempt()
    assert (outcome.status, outcome.reason) == ("ok", "")
    expected = ["import", "build", "data", "first_step", "warm_up", "epoch", "epoch", "evaluation"]
    assert phases(outcome) == expected
    assert outcome.peak_memory_mb > 10
    assert outcome.outer_seconds > sum(event["seconds"] for event in outcome.of("phase"))
    assert outcome.of("versions")[0]["versions"]["numpy"] == np.__version__


def test_warming_up_ends_early_where_its_steps_take_minutes(attempt):
    few = "from rosetta.worker import measure; measure.WARM_UP_SECONDS = 0"
    assert phases(attempt(warm_up=3)).count("warm_up") == 3
    assert phases(attempt(warm_up=3, setup=few)).count("warm_up") == 1


def test_a_leg_that_trains_in_blocks_runs_one_before_the_clock(attempt, tmp_path):
    """The program for a block is compiled, and timed once, before the first epoch. What does not fit the samples is left out."""
    note = "print(len(order), flush=True)"
    for block, calls in ((2, ["4", "4", "8", "8", "8", "8"]), (3, ["4", "4", "8", "8"])):
        outcome = attempt(setup=f"steps_per_execution = lambda model: {block}", train=note)
        assert outcome.status == "ok"
        assert ((tmp_path / "leg.log").read_text().split(), phases(outcome).count("warm_up")) == (calls, len(calls) - 3)


@pytest.mark.parametrize(
    ("epochs", "steps", "step_seconds", "budget", "calls"),
    [
        (3, 8, 0.1, None, [8, 8, 8]),  # no budget
        (3, 8, 0.1, 5.0, [8, 8, 8]),  # all of it fits
        (3, 8, 0.5, 5.0, [4, 3, 3]),  # ten steps fit
        (3, 8, 2.0, 5.0, [1, 1]),  # two steps fit
        (3, 8, 60.0, 5.0, [1, 1]),  # none does
        (1, 8, 60.0, 5.0, [1, 1]),
        (1, 1, 60.0, 5.0, [1]),  # there is no second step
        (3, 8, 0.0, 5.0, [8, 8, 8]),  # faster than the clock
    ],
)
def test_a_budget_is_shared_over_the_planned_calls(epochs, steps, step_seconds, budget, calls):
    assert steps_of_calls(epochs, steps, step_seconds, budget) == calls


def test_a_slow_leg_is_timed_on_fewer_steps_and_says_how_many(attempt):
    """Two steps of the four that are planned: each call of train is given its part of the same order, and each loss comes back."""
    outcome = attempt(budget=0.7, train="time.sleep(0.3 * (len(order) // 4))")
    assert outcome.status == "ok"
    calls = [event for event in outcome.of("phase") if event["phase"] == "epoch"]
    assert [(call["steps"], len(call["losses"])) for call in calls] == [(1, 1), (1, 1)]
    whole = [event for event in attempt().of("phase") if event["phase"] == "epoch"]
    assert [call["steps"] for call in whole] == [2, 2]


def test_scoring_stops_after_whole_batches_where_its_budget_ends(attempt):
    slow = "global predict; fast = predict; predict = lambda model, x: (time.sleep(0.3 * (len(x) // 4)), fast(model, x))[1]"
    assert scored(attempt(scoring=0.4, build=slow)) == 4
    assert scored(attempt(build=slow)) == 8


def scored(outcome) -> int:
    (evaluation,) = (event for event in outcome.of("phase") if event["phase"] == "evaluation")
    return evaluation["samples"]


def test_a_hanging_leg_is_ended_at_its_limit_and_keeps_its_phases(attempt):
    outcome = attempt(timeout=4, train="time.sleep(1000)")
    assert outcome.status == "timeout"
    assert "4 s" in outcome.reason
    assert phases(outcome) == ["import", "build", "data"]
    assert 4 <= outcome.outer_seconds < 20


def test_a_leg_that_ignores_signals_is_ended_with_its_children(attempt):
    setup = (
        "import subprocess\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)"
    )
    outcome = attempt(timeout=4, setup=setup, build="subprocess.Popen(['sleep', '98765'])", train="time.sleep(1000)")
    assert outcome.status == "timeout"
    time.sleep(0.5)
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "98765"]]


def test_a_killed_leg_is_a_failure_that_names_the_signal(attempt):
    def kill(event):
        if event["event"] == "phase" and event["phase"] == "build":
            victim["seen"] = True
        if event["event"] == "start":
            victim["pid"] = event["pid"]
            threading.Timer(2, lambda: os.kill(event["pid"], signal.SIGKILL)).start()

    victim = {}
    outcome = attempt(listen=kill, train="time.sleep(1000)")
    assert outcome.status == "failed"
    assert "SIGKILL" in outcome.reason
    assert victim["seen"]


def test_a_crash_in_native_code_is_a_failure(attempt):
    outcome = attempt(train="os.kill(os.getpid(), signal.SIGSEGV)")
    assert (outcome.status, "SIGSEGV" in outcome.reason) == ("failed", True)


def test_a_leg_that_ends_the_process_is_not_taken_for_done(attempt):
    outcome = attempt(train="os._exit(0)")
    assert outcome.status == "failed"
    assert "before it was done" in outcome.reason


def test_an_exception_arrives_as_one_line_and_its_traceback_in_the_log(attempt, tmp_path):
    outcome = attempt(train="raise ValueError('channels do not fit\\nsecond line')")
    assert (outcome.status, outcome.reason) == ("failed", "ValueError: channels do not fit")
    assert "Traceback" in Path(tmp_path / "leg.log").read_text()


def test_a_missing_library_is_unavailable(attempt):
    outcome = attempt(setup="import no_such_framework")
    assert outcome.status == "unavailable"
    assert "no_such_framework" in outcome.reason


def test_what_a_library_cannot_do_is_unsupported(attempt):
    outcome = attempt(build="raise NotImplementedError('this processor has no bfloat16')")
    assert (outcome.status, outcome.reason) == ("unsupported", "this processor has no bfloat16")


def test_an_interpreter_that_is_gone_is_a_failure_and_no_abort(tmp_path):
    outcome = isolation.run(str(tmp_path / "python"), {}, {}, tmp_path / "log", 5)
    assert outcome.status == "failed"
    assert "rosetta setup" in outcome.reason


def test_memory_that_cannot_be_had_is_out_of_memory(attempt):
    outcome = attempt(build="np.empty(2**60, np.uint8)")
    assert outcome.status == "out-of-memory"


def test_queued_work_is_paid_for_where_it_was_ordered(attempt):
    """An asynchronous library returns at once and works later: the clock waits for `synchronize`."""
    outcome = attempt(
        setup="import threading\nqueue = []",
        train="job = threading.Thread(target=time.sleep, args=(0.4,)); job.start(); queue.append(job)",
        synchronize="[job.join() for job in queue]",
    )
    epochs = [event["seconds"] for event in outcome.of("phase") if event["phase"] == "epoch"]
    assert len(epochs) == 2
    assert min(epochs) >= 0.4


def test_one_leg_at_a_time_on_a_device():
    said, taken = [], threading.Event()

    def second():
        with isolation.device_lock("test-device", said.append):
            taken.set()

    thread = threading.Thread(target=second)
    with isolation.device_lock("test-device", said.append):
        thread.start()
        assert not taken.wait(1)
    assert taken.wait(10)
    thread.join()
    assert "another measurement holds test-device" in said[0]


def test_threads_are_set_for_every_library():
    environment = isolation.variables(3, "cpu", {"R_HOME": "/r"})
    assert {environment[name] for name in isolation.THREAD_VARIABLES} == {"3"}
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["R_HOME"]) == ("", "/r")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker is not told of the end of its harness")
def test_a_worker_whose_harness_ended_before_it_began_ends_too(tmp_path):
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"task": {}, "parent": os.getpid() + 1}))
    done = subprocess.run(
        [sys.executable, "-m", "rosetta.worker", str(job)],
        env=isolation.variables(1, "cpu", {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "the harness that started this worker has ended\n"


def test_what_the_user_has_on_pythonpath_counts_only_with_the_current_interpreter(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/cluster/modules")
    monkeypatch.delenv("PYTHONNOUSERSITE", raising=False)
    isolated, current = isolation.variables(1, "cpu", {}), isolation.variables(1, "cpu", {}, "current")
    harness = str(isolation.ROOT / "python")
    assert (isolated["PYTHONPATH"], isolated["PYTHONNOUSERSITE"]) == (harness, "1")
    assert current["PYTHONPATH"].split(":") == [harness, "/cluster/modules"]
    assert "PYTHONNOUSERSITE" not in current


def test_proofs_share_a_device_among_themselves_but_with_nothing_that_is_timed():
    said, order = [], []

    def timed():
        with isolation.device_lock("test-device", said.append):
            order.append("timed")

    with isolation.device_lock("test-device", said.append, shared=True):
        with isolation.device_lock("test-device", said.append, shared=True):
            assert not said
        thread = threading.Thread(target=timed)
        thread.start()
        while not said:
            time.sleep(0.01)
        order.append("proven")
    thread.join()
    assert order == ["proven", "timed"]


def test_a_compile_cache_of_the_users_does_not_hide_what_a_first_step_costs(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere")
    assert "TORCHINDUCTOR_CACHE_DIR" not in isolation.variables(1, "cpu", {})
