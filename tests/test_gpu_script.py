"""benchmarks/gpu.sh: what is run in which order, that nothing is run twice, and that it ends in time."""

import importlib.util
import json
import subprocess
import sys
import threading
import time
from functools import partial

import psutil
import pytest
import sample_records
from conftest import variables
from rosetta.config import ROOT, ConfigError
from tests_support import message_of

specification = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks/gpu.py")
gpu = sys.modules["gpu"] = importlib.util.module_from_spec(specification)
specification.loader.exec_module(gpu)

CPU = ("device=cpu",)


def names(jobs):
    return [(job.leg.name, job.plan.settings.precision, job.number) for job in jobs]


def proofs(*pairs):
    return gpu.jobs([(leg, precision) for leg, precision in pairs], list(CPU))


@pytest.fixture
def session(tmp_path):
    return gpu.Session(tmp_path, time.monotonic() + 1000)


@pytest.fixture
def ran(monkeypatch):
    """Stand-ins for what runs a leg: the runs, in their order, and {(leg, number): what one comes to instead of ok}."""
    runs, instead = [], {}

    def run(plan, leg, number=0, together=False):
        runs.append((leg.name, plan.settings.precision, number))
        outcome = instead.get((leg.name, number), "ok")
        if isinstance(outcome, Exception):
            raise outcome
        record = sample_records.run(leg.name, "round" if number else "proof", number, outcome, outer_seconds=2.0)
        return {**record, "precision": plan.settings.precision, "device": plan.settings.device}

    monkeypatch.setattr(gpu.measuring, "measure", run)
    monkeypatch.setattr(gpu.measuring, "prove", run)
    monkeypatch.setattr(gpu, "ensure_goldens", lambda session, proofs, folder: proofs)
    return runs, instead


def everything(session, proofs, only="", rounds=2):
    gpu.everything(session, proofs, only, rounds, 2, session.folder)


def test_the_plan_begins_with_the_fastest_legs_and_names_each_once():
    plan = gpu.planned([], [])
    assert plan[0] == ("python/pytorch-graph/cnn", "fp32")
    assert plan[-1] == ("python/tinygrad/rnn", "fp32")
    assert ("python/onnxruntime/resnet50", "tf32") in plan
    assert len(plan) == len(set(plan))


def test_words_and_precisions_leave_out_the_others_and_together_name_further_ones():
    assert gpu.planned(["python/jax/*"], []) == [it for it in gpu.planned([], []) if it[0].startswith("python/jax/")]
    assert {precision for _, precision in gpu.planned([], ["bf16"])} == {"bf16"}
    assert gpu.planned(["python/numpy/rnn"], []) == []
    assert gpu.planned(["python/numpy/rnn"], ["fp32", "bf16"]) == [
        ("python/numpy/rnn", "fp32"),
        ("python/numpy/rnn", "bf16"),
    ]
    assert "did you mean python/jax" in message_of(ConfigError, partial(gpu.planned, ["python/jacks"], []))


def test_a_round_of_each_then_the_proofs_then_more_rounds(session, ran):
    runs, _ = ran
    pairs = ("python/numpy/cnn", "fp32"), ("python/pytorch/rnn", "bf16")
    everything(session, proofs(*pairs))
    assert runs == [(*pair, number) for number in (1, 0, 2) for pair in pairs]
    lines = map(json.loads, session.file.read_text().splitlines())
    assert [line["round"] for line in lines] == [1, 1, 0, 0, 2, 2]


def test_what_is_there_and_ok_is_not_run_again(session, ran):
    runs, instead = ran
    jobs = proofs(("python/numpy/cnn", "fp32"), ("python/numpy/rnn", "fp32"))
    instead["python/numpy/rnn", 1] = "failed"
    everything(session, jobs, only="rounds")
    # What failed is not tried again before the next session.
    assert runs == [("python/numpy/cnn", "fp32", 1), ("python/numpy/rnn", "fp32", 1), ("python/numpy/cnn", "fp32", 2)]
    with open(session.file, "a") as file:
        file.write('{"a line": "cut o')
    instead.clear()
    runs.clear()
    again = gpu.Session(session.folder, session.deadline)
    again.read()
    everything(again, jobs, only="rounds")
    assert runs == [("python/numpy/rnn", "fp32", 1), ("python/numpy/rnn", "fp32", 2)]
    whole = [line for line in session.file.read_text().splitlines() if line.endswith("}")]
    assert len([json.loads(line) for line in whole]) == 5


def test_an_error_of_the_harness_ends_a_leg_and_not_the_script(session, ran, capsys):
    runs, instead = ran
    instead["python/numpy/cnn", 1] = ValueError("no such thing")
    everything(session, proofs(("python/numpy/cnn", "fp32"), ("python/numpy/rnn", "fp32")), only="rounds", rounds=1)
    assert len(runs) == 2
    assert "ValueError: no such thing" in capsys.readouterr().out
    assert len(session.file.read_text().splitlines()) == 1


def test_nothing_is_started_that_is_not_expected_to_end_in_time(session, ran, capsys):
    runs, _ = ran
    session.deadline = time.monotonic() + gpu.UNKNOWN_SECONDS - 5
    jobs = proofs(("python/numpy/cnn", "fp32"), ("python/numpy/rnn", "fp32"))
    everything(session, jobs)
    assert not runs
    assert capsys.readouterr().out.count("2 not started") == 1
    # What took two seconds before still fits, in another precision too.
    session.kept.append(sample_records.run("python/numpy/rnn", "round", 9, outer_seconds=2.0, device="cpu"))
    everything(session, jobs, only="rounds", rounds=1)
    assert runs == [("python/numpy/rnn", "fp32", 1)]


def test_what_is_still_running_at_the_end_is_killed_and_leaves_no_record(session, monkeypatch):
    started = []

    def measure(plan, leg, number):
        started.append(psutil.Popen(["sleep", "60"], start_new_session=True))
        started[0].wait()
        return sample_records.run(leg.name, "round", number, "failed")

    monkeypatch.setattr(gpu.measuring, "measure", measure)
    monkeypatch.setattr(gpu, "UNKNOWN_SECONDS", 0.1)
    session.deadline = time.monotonic() + 1
    everything(session, proofs(("python/numpy/cnn", "fp32")), only="rounds")
    assert time.monotonic() < session.deadline + gpu.ENDING_SECONDS
    assert not started[0].is_running()
    assert not session.file.exists()


def test_proofs_run_several_at_a_time_and_rounds_alone(session, ran, monkeypatch):
    now, most, lock = [], {}, threading.Lock()

    def count(run):
        def counted(plan, leg, number=0, together=False):
            with lock:
                now.append(leg)
                most[bool(number)] = max(most.get(bool(number), 0), len(now))
            time.sleep(0.2)
            with lock:
                now.remove(leg)
            return run(plan, leg, number)

        return counted

    for name in ("measure", "prove"):
        monkeypatch.setattr(gpu.measuring, name, count(getattr(gpu.measuring, name)))
    everything(session, proofs(*((f"python/{it}/cnn", "fp32") for it in ("numpy", "pytorch", "jax"))))
    assert most == {True: 1, False: 2}


@pytest.mark.parametrize(("together", "shared"), [(False, False), (True, True)])
def test_proofs_share_a_gpu_only_where_the_caller_says_so(together, shared, monkeypatch, tmp_path):
    class Asked(Exception):
        pass

    def lock(device, say, shared):
        raise Asked(device, shared)

    measuring = gpu.measuring
    [job] = gpu.jobs([("python/pytorch/cnn", "fp32")], ["device=cuda"])
    monkeypatch.setattr(measuring, "damage", lambda plan, leg: "")
    monkeypatch.setattr(measuring.prepare, "manifest", lambda folder: dict(source="", statement="", sha256=""))
    monkeypatch.setattr(measuring.isolation, "device_lock", lock)
    record = measuring.blank(job.plan, job.leg, 0, tmp_path / "log", 1)
    marker = {"toolchain": None, "variables": {}, "python": sys.executable}
    given = job.plan, job.leg, 0, marker, tmp_path / "log", record, print, print
    with pytest.raises(Asked) as asked:
        measuring.work(*given, together=together)
    assert asked.value.args == ("cuda", shared)


@pytest.mark.thorough
def test_the_script_runs_a_leg_and_goes_on_where_it_ended(tmp_path):
    """On a CPU, in the interpreter at hand, with tiny work; golden values that lie elsewhere are taken from there."""
    settings = ["work.cnn.batch=4", "work.cnn.samples=16", "work.cnn.test_samples=4", "work.cnn.epochs=2"]
    settings += ["proof_steps=1", "threads=1"]
    command = [ROOT / "benchmarks/gpu.sh", "out", "--device", "cpu", "--wheels", "none", "--rounds", "1"]
    command += ["--legs", "python/numpy/cnn,python/tinygrad/cnn", "--precisions", "fp32"]
    command += [word for setting in settings for word in ("-c", setting)]

    def run(*more):
        given = {"cwd": tmp_path, "env": variables(tmp_path, PYTHON=sys.executable)}
        done = subprocess.run([*command, *more], **given, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kinds(folder):
        lines = (tmp_path / folder / "records.jsonl").read_text().splitlines()
        return [(record["kind"], record["leg"], record["status"]) for record in map(json.loads, lines)]

    said = run("--only", "rounds")
    assert "missing: tinygrad" in said
    assert "skipped: python/tinygrad/cnn fp32: tinygrad" in said
    assert kinds("out") == [("round", "python/numpy/cnn", "ok")]
    assert "computing golden values" in run()
    assert kinds("out") == [("round", "python/numpy/cnn", "ok"), ("proof", "python/numpy/cnn", "ok")]
    command[1] = "elsewhere"
    assert "computing" not in run("--only", "proofs", "--golden", "out/golden")
    assert kinds("elsewhere") == [("proof", "python/numpy/cnn", "ok")]
