"""`rosetta bench`: what it says before, during and after a run, how long it thinks that it takes, and that it leaves nothing behind."""

import io
import json
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
import sample_records
from conftest import command, rosetta, snakemake, variables
from rich.console import Console
from rosetta import announcement, bench, config, estimate, events, isolation, records
from rosetta.announcement import Announcement, Obstacle
from rosetta.estimate import Done, Job
from rosetta.frameworks import select
from rosetta.plan import Plan
from rosetta.watching import Watch, outcomes

NUMPY = ("profile=smoke", "data=synthetic", "legs=python/numpy")
ESCAPE = "\x1b"


def settings(**overrides):
    return config.load({"profile": "quick", "data": "synthetic", **overrides})


# The estimate


def test_rounds_come_one_after_the_other_and_proofs_two_at_a_time():
    proofs = [Job("proof", name, 0, 10.0) for name in "abcd"]
    rounds = [Job("round", name, 1, 10.0) for name in "abcd"]
    assert estimate.remaining(proofs, lanes=2) == 20
    assert estimate.remaining(proofs, lanes=1) == 40
    assert estimate.remaining(rounds, lanes=2) == 40
    assert estimate.remaining(proofs + rounds, lanes=2) == 60
    assert estimate.remaining([*proofs, Job("proof", "slow", 0, 90.0)], lanes=2) == 90


def test_a_run_whose_length_nobody_knows_has_no_estimate():
    assert estimate.remaining([Job("round", "a", 1, 10.0), Job("round", "b", 1, None)]) is None
    assert estimate.about(None) == "an unknown time"
    leg = select(["python/numpy/cnn"])[0]
    assert estimate.round_(leg, settings(profile="full"), None) is None
    assert estimate.proof(leg, settings(profile="full"), None) is None


def test_the_first_round_of_a_leg_says_how_long_the_second_takes():
    first, second = Job("round", "a", 1, None), Job("round", "a", 2, None)
    assert estimate.remaining([second], [Done(first, 33.0)]) == 33


def test_the_estimate_follows_what_the_machine_shows():
    """Twice as slow as expected: the more has ended, the more that counts. What did not really run says nothing."""
    left = [Job("round", "z", 1, 100.0)]
    done = [Done(Job("round", str(number), 1, 100.0), 200.0) for number in range(10)]
    one, all_of_them = estimate.remaining(left, done[:1]), estimate.remaining(left, done)
    assert 100 < one < all_of_them < 200
    assert all_of_them == pytest.approx(200, rel=0.03)
    assert estimate.remaining(left, [Done(Job("round", "b", 1, 100.0), 1.0, counts=False)]) == 100
    assert estimate.remaining(left, [Done(Job("proof", "b", 0, 100.0), 300.0)]) == 100


def test_a_budget_bounds_what_a_round_is_expected_to_take():
    numpy, flux = select(["python/numpy/cnn"])[0], select(["julia/flux/cnn"])[0]
    short, long = settings(budget_seconds=5), settings(budget_seconds=50)
    assert estimate.round_(numpy, long, None) - estimate.round_(numpy, short, None) == 45
    assert estimate.round_(flux, short, None) >= estimate.round_(numpy, short, None) + 20
    assert estimate.proof(flux, short, None) >= 60


def earlier_record(**changes) -> dict:
    chosen = settings()
    work = {**chosen.work["cnn"], "warm_up": chosen.warm_up}
    return {
        "kind": "round", "leg": "python/numpy/cnn", "task": "cnn", "profile": "quick", "device": "cpu", "precision": "fp32",
        "threads": chosen.threads, "work": work, "budget_seconds": chosen.budget_seconds, "scoring_seconds": chosen.scoring_seconds,
        "outer_seconds": 21.0, "differences": [], **changes,
    }  # fmt: skip


def test_an_earlier_run_with_the_same_work_is_believed_and_the_last_one_most(tmp_path):
    history = tmp_path / "history.jsonl"
    lines = [json.dumps(earlier_record(outer_seconds=seconds)) for seconds in (50.0, 21.0)]
    history.write_text("\n".join(lines) + '\n{"cut off')
    found = estimate.earlier(history, settings())
    leg = select(["python/numpy/cnn"])[0]
    past = found["round", "python/numpy/cnn"]
    assert estimate.round_(leg, settings(), past) == 21 + estimate.JOB_SECONDS
    assert estimate.earlier(tmp_path / "none", settings()) == {}


@pytest.mark.parametrize(
    "changes",
    [{"profile": "full"}, {"device": "cuda"}, {"threads": 1000}, {"budget_seconds": None}, {"outer_seconds": 0.0},
     {"work": {"batch": 1}}],
)  # fmt: skip
def test_an_earlier_run_with_other_work_is_not(changes, tmp_path):
    history = tmp_path / "history.jsonl"
    history.write_text(json.dumps(earlier_record(**changes)) + "\n")
    assert estimate.earlier(history, settings()) == {}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "less than a minute"), (60, "about a minute"), (200, "about 3 minutes"), (840, "about 14 minutes"),
     (3900, "about 65 minutes"), (9000, "about 2.5 hours")],
)  # fmt: skip
def test_times_are_rounded_to_what_can_be_known(seconds, words):
    assert estimate.about(seconds) == words


@pytest.mark.parametrize(
    ("earlier", "now"), [("small", "whole"), ("whole", "small"), ("small", "small"), ("whole", "whole")]
)
def test_an_earlier_proof_is_believed_where_it_compared_the_same(earlier, now, tmp_path):
    leg = select(["python/numpy/cnn"])[0]
    differences = []
    for precision, golden in Plan.of(settings(proof=earlier)).comparisons(leg):
        differences += [{"precision": precision, "batch": golden.batch, "step": step} for step in (0, golden.steps)]
    history = tmp_path / "history.jsonl"
    history.write_text(json.dumps(earlier_record(kind="proof", differences=differences)) + "\n")
    assert bool(estimate.earlier(history, settings(proof=now))) == (earlier == now)


# Before the run


def reason(**changes):
    """Snakemake's reason of a job whose record is there."""
    nothing = dict.fromkeys(("forced", "params_changed", "input_changed", "code_changed", "software_stack_changed"))
    files = {name: set() for name in ("missing_output", "incomplete_output", "updated_input", "updated_input_run")}
    return SimpleNamespace(**{**nothing, **files, **changes})


def test_it_is_said_why_a_record_is_made_again():
    leg = str(config.ROOT / "python/frameworks/numpy/cnn.py")
    harness = str(config.ROOT / "python/rosetta/worker/measure.py")
    assert announcement.why(reason(missing_output={"round-1.json"})) == ""
    assert announcement.why(reason(updated_input={leg})) == "files of the leg have changed"
    assert announcement.why(reason(updated_input={harness})) == "the harness has changed"
    marker = "shared_data/environments/numpy-cpu-isolated.json"
    assert announcement.why(reason(updated_input_run={marker})) == "the environment numpy is a new one"
    both = announcement.why(reason(updated_input={harness, leg}))
    assert both == "files of the leg have changed and the harness has changed"


def test_a_changed_setting_is_named():
    leg = select(["python/numpy/cnn"])[0]
    old, new = (
        repr(Plan.of(chosen).round_settings(leg))
        for chosen in (settings(), settings(work={"cnn": {"epochs": 8}}))
    )  # fmt: skip
    changed = SimpleNamespace(only_old={old, "1"}, only_new={new, "2"})
    assert announcement.why(reason(params_changed=changed)) == "a setting has changed (epochs 3 -> 8)"
    again = SimpleNamespace(only_old={"1"}, only_new={"2"})
    assert "what stopped them has changed" in announcement.why(reason(params_changed=again))


def test_a_changed_number_is_said_with_the_name_of_its_setting():
    leg = select(["python/numpy/cnn"])[0]

    def changed(of, **overrides):
        old, new = (repr(getattr(Plan.of(chosen), of)(leg)) for chosen in (settings(), settings(**overrides)))
        return announcement.changed_settings({old}, {new})

    assert changed("round_settings", budget_seconds=3) == "a setting has changed (budget_seconds 5 -> 3)"
    assert changed("round_settings", scoring_seconds="null") == "a setting has changed (scoring_seconds 2 -> null)"
    assert changed("proof_settings", proof_steps=5) == "a setting has changed (proof_steps 20 -> 5)"


def test_the_announcement_says_what_will_be_done_in_a_few_lines():
    jobs = [Job(kind, "python/numpy/cnn", number, 60.0) for kind, number in (("proof", 0), ("round", 1), ("round", 2))]
    found = Announcement(
        settings(rounds=2),
        jobs,
        again={"a setting has changed": jobs[1:]},
        environments=["tensorflow", "modern"],
        data=["IMDB"],
        unsized=["modern"],
        download_mb=1234.0,
        disk_mb=5678.0,
        excluded={"retired": ["python/theano/cnn"]},
        gpu="NVIDIA H100",
    )
    assert announcement.lines(found) == [
        "To do: 1 leg (1 proof, 2 rounds), about 3 minutes.",
        "Made again: 2 rounds (about 2 minutes), because a setting has changed.",
        "Not here yet: environments modern, tensorflow; data IMDB: up to 1.2 GB to download and 5.7 GB of disk (size unknown: modern).",
        "Not run, retired: python/theano",
        'NVIDIA H100 is here, but device is cpu. To use it: make report CONFIG="data=synthetic profile=quick rounds=2 device=cuda"',
    ]
    unknown = Announcement(settings(profile="full"), [Job("round", "python/numpy/cnn", 1, None)])
    assert announcement.lines(unknown) == [
        "To do: 1 leg (1 round), how long that takes is unknown for profile full before a first run."
    ]


def test_legs_that_the_same_command_helps_stand_in_one_line():
    r, r_mxnet = "R is missing; `rosetta setup r` tries again", "reticulate is missing"
    obstacles = [
        Obstacle("r/base/cnn", r, "rosetta setup r"),
        Obstacle("r/base/rnn", r, "rosetta setup r"),
        Obstacle("r/mxnet/cnn", r_mxnet, "rosetta setup rmxnet"),
        Obstacle("python/cntk/cnn", "no such platform"),
    ]
    assert announcement.grouped(obstacles) == [
        "r/base: R is missing; then: rosetta setup r",
        "r/mxnet/cnn: reticulate is missing; then: rosetta setup rmxnet",
        "python/cntk/cnn: no such platform",
    ]


def test_what_is_known_to_be_impossible_is_said_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rosetta.machine.gpus", list)
    plan = Plan.of(settings(device="cuda"), ["python/pytorch", "python/numpy", "python/theano"])
    needed = [(("round", leg.name, 1), reason(missing_output={"it"})) for leg in plan.legs]
    found = announcement.gather(plan, needed, cores=2)
    assert {it.leg for it in found.obstacles} == {f"python/pytorch/{task}" for task in ("cnn", "rnn", "resnet50")}
    assert found.excluded.keys() == {"retired", "without cuda in fp32"}
    assert announcement.lines(found)[0] == "No leg that has to be run can run here; the page says why."


# While it runs


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """A watch over both legs of NumPy and one of JAX, whose output is no terminal: (watch, what it has said)."""
    monkeypatch.chdir(tmp_path)
    plan = Plan.of(settings(), ["python/numpy", "python/jax/cnn"])
    out = io.StringIO()
    watch = Watch(plan, Console(file=out))
    jobs = [["environment", "numpy", 0, 30.0], ["environment", "modern", 0, 30.0]]
    for leg in plan.legs:
        jobs += [[kind, leg.name, number, 60.0] for kind, number in (("proof", 0), ("round", 1), ("round", 2))]
    watch.take({"event": "plan", "jobs": jobs, "lanes": 2, "idle": [], "lines": ["To do: 3 legs."]})
    return watch, lambda: out.getvalue().splitlines()


def ended(kind, name, number=0, status="ok", reason="", seconds=58.0) -> list[dict]:
    """The two events of a job."""
    key = {"kind": kind, "name": name, "number": number}
    return [{"event": "start", **key}, {"event": "end", **key, "status": status, "reason": reason, "seconds": seconds}]


def test_each_finished_leg_is_one_plain_line(watch):
    watch, said = watch
    steps = [("environment", "numpy"), ("environment", "modern"), ("proof", "python/numpy/cnn")]
    steps += [("round", "python/numpy/cnn", 1), ("round", "python/numpy/cnn", 2)]
    for step in steps:
        for event in ended(*step, seconds=28.0 if step[0] == "environment" else 58.0):
            watch.take(event)
    assert said() == [
        "To do: 3 legs.",
        "environment numpy ready (1 of 2), about 8 minutes left",
        "environment modern ready (2 of 2), about 8 minutes left",
        "python/numpy/cnn proven (1 of 3), about 7 minutes left",
        "python/numpy/cnn timed (1 of 3), about 5 minutes left",
    ]
    assert watch.states == {
        "python/numpy/cnn": "timed", "python/numpy/rnn": "waiting", "python/jax/cnn": "waiting"
    }  # fmt: skip
    assert watch.counts() == "1 of 3 timed"


def test_a_failure_is_said_at_once_with_its_reason_in_one_line(watch):
    watch, said = watch
    for event in ended("proof", "python/jax/cnn", status="mismatch", reason="logits differ by 1"):
        watch.take(event)
    assert said()[-1] == "python/jax/cnn mismatch: logits differ by 1"
    assert watch.states["python/jax/cnn"] == "mismatch"
    assert watch.states_in_words()["python/jax/cnn"] == "mismatch: logits differ by 1"


def test_data_that_cannot_be_had_are_said_with_the_way_out(watch):
    watch, said = watch
    for event in ended("data", "cnn", status="failed", reason="no such folder; name another one"):
        watch.take(event)
    assert said()[-1] == "data of cnn failed: no such folder; name another one"
    assert watch.broken


def test_a_leg_is_waiting_then_running_then_proven_then_timed(watch):
    watch, _ = watch
    name, seen = "python/numpy/cnn", []
    for event in [*ended("proof", name), *ended("round", name, 1), *ended("round", name, 2)]:
        watch.take(event)
        seen.append(watch.states[name])
    assert seen == ["running", "proven", "running", "proven", "running", "timed"]


def test_legs_that_turn_out_not_to_run_take_no_more_time(watch):
    watch, said = watch
    before = watch.seconds_left()
    for event in ended("proof", "python/jax/cnn", status="unavailable", reason="no wheel", seconds=0.5):
        watch.take(event)
    assert watch.seconds_left() < before - 100
    assert said()[-1].startswith("python/jax/cnn unavailable (1 of 3)")
    assert watch.counts() == "0 of 2 proven"


def keep(plan, name, number, status="ok", reason=""):
    """Leaves the record of an earlier run."""
    kind = "round" if number else "proof"
    records.write(plan.run_record(plan.leg(name), number), sample_records.run(name, kind, number, status, reason))


def test_a_kept_proof_decides_how_a_leg_shows_whose_rounds_alone_are_made_again(watch):
    watch, _ = watch
    good, bad = "python/numpy/cnn", "python/jax/cnn"
    keep(watch.plan, good, 0)
    keep(watch.plan, bad, 0, "mismatch", "logits differ by 1")
    jobs = [["round", name, number, 60.0] for name in (good, bad) for number in (1, 2)]
    watch.take({"event": "plan", "jobs": jobs, "lanes": 2, "idle": [], "lines": []})
    assert watch.states == {good: "proven", bad: "mismatch", "python/numpy/rnn": "waiting"}
    assert watch.counts() == "1 of 3 proven"
    for number in (1, 2):
        for event in ended("round", bad, number):
            watch.take(event)
    assert watch.states_in_words()[bad] == "mismatch: logits differ by 1"
    assert watch.counts() == "1 of 3 timed"


def test_what_is_all_there_counts_as_timed(watch):
    watch, _ = watch
    name = "python/numpy/rnn"
    for number in range(3):
        keep(watch.plan, name, number)
    watch.take({"event": "plan", "jobs": [["proof", "python/jax/cnn", 0, 9.0]], "lanes": 2, "idle": [], "lines": []})
    assert watch.states[name] == "timed"
    assert watch.counts() == "1 of 3 timed"


def test_a_leg_whose_proof_alone_is_made_again_waits_for_it(watch):
    watch, _ = watch
    name = "python/numpy/rnn"
    for number in (1, 2):
        keep(watch.plan, name, number)
    watch.take({"event": "plan", "jobs": [["proof", name, 0, 9.0]], "lanes": 2, "idle": [], "lines": []})
    assert (watch.states[name], watch.counts()) == ("waiting", "0 of 3 proven")
    for event in ended("proof", name):
        watch.take(event)
    assert (watch.states[name], watch.counts()) == ("timed", "1 of 3 timed")


@pytest.mark.parametrize("status", ["variant", "mismatch"])
def test_a_leg_that_computes_something_else_counts_as_timed_when_its_rounds_have_ended(watch, status):
    watch, _ = watch
    name = "python/jax/cnn"
    for event in [*ended("proof", name, status=status), *ended("round", name, 1), *ended("round", name, 2)]:
        watch.take(event)
    assert watch.states[name] == status
    assert watch.counts() == "1 of 3 timed"


def test_the_end_of_a_run_with_a_target_of_its_own_counts_the_legs_that_it_ran(watch):
    watch, _ = watch
    for name in ("python/numpy/cnn", "python/numpy/rnn"):
        proof, rounds = sample_records.run(name, "proof", 0), [sample_records.run(name, "round", 1)]
        records.write(watch.plan.record(watch.plan.leg(name)), records.gather(proof, rounds))
    jobs = [["round", "python/numpy/cnn", 1, 60.0]]
    watch.take({"event": "plan", "jobs": jobs, "lanes": 2, "idle": [], "lines": []})
    assert watch.summary(["it.json"], 9, whole=False)[1] == "1 leg of 1 proven and timed."
    assert watch.summary(["reports/summary.html"], 9)[1] == "2 legs of 2 proven and timed."


def test_the_page_waits_for_the_environments_and_for_the_end(watch):
    watch, _ = watch
    assert not watch.is_measuring
    for name in ("numpy", "modern"):
        for event in ended("environment", name):
            watch.take(event)
    assert watch.is_measuring
    watch.take({"event": "start", "kind": "report", "name": "reports", "number": 0})
    assert not watch.is_measuring


def test_on_a_terminal_it_draws_at_events_alone_and_cuts_no_name():
    plan, out = Plan.of(settings(), ["python/keras-tensorflow"]), io.StringIO()
    with Watch(plan, Console(file=out, force_terminal=True, width=60)) as watch:
        jobs = [["round", leg.name, 1, 10.0] for leg in plan.legs]
        watch.take({"event": "plan", "jobs": jobs, "lanes": 2, "idle": [], "lines": ["To do: 3 legs."]})
        watch.take({"event": "start", "kind": "round", "name": "python/keras-tensorflow/resnet50", "number": 1})
        drawn = out.getvalue()
        assert "now: python/keras-tensorflow/resnet50, round 1" in drawn
        assert "0 of 3 proven" in drawn
        assert not [it for it in threading.enumerate() if "Refresh" in type(it).__name__]


# At the end


def test_what_did_not_run_is_grouped_by_its_reason_failures_first():
    legs = [
        ("python/theano/cnn", "retired", "a long story"),
        ("r/base/cnn", "unavailable", "R is missing"),
        ("r/base/rnn", "unavailable", "R is missing"),
        ("python/numpy/cnn", "ok", ""),
        ("python/jax/cnn", "failed", "no memory"),
    ]
    assert outcomes(legs) == [
        "failed: python/jax/cnn: no memory",
        "unavailable: r/base: R is missing",
        "retired: python/theano",
    ]


def test_of_a_failed_run_the_lines_that_matter_are_shown():
    assert bench.what_matters("a\nrosetta: no data\nErrorInRule:\nb\nrosetta: no data\n") == ["rosetta: no data"]
    assert bench.what_matters("a\nWorkflowError:\nno rule for x\nb") == ["no rule for x"]
    assert bench.what_matters("\n".join("123456789")) == list("56789")


# Events and locks


def test_events_arrive_in_order_whole_and_nobody_waits(monkeypatch):
    listener = events.Listener()
    for name, value in listener.variables.items():
        monkeypatch.setenv(name, value)
    with events.step("proof", "python/numpy/cnn") as outcome:
        outcome.update(status="mismatch", reason="x" * 10_000)
    events.send("plan", lines=["y" * 100_000])
    start, end, plan = listener.wait()
    assert (start["event"], start["kind"], start["name"]) == ("start", "proof", "python/numpy/cnn")
    assert (end["event"], end["status"], end["reason"][:3]) == ("end", "mismatch", "xxx")
    assert plan["lines"] == ["y" * 100_000]
    assert listener.waiting() == []
    for _ in range(10_000):  # more than a pipe holds
        events.send("start", kind="round", name="a", number=1)
    assert listener.waiting()
    listener.close()
    events.send("start", kind="round", name="nobody listens", number=1)


def test_a_step_that_breaks_says_so(monkeypatch):
    listener = events.Listener()
    monkeypatch.setenv(events.VARIABLE, listener.variables[events.VARIABLE])
    with pytest.raises(ValueError, match="no data"), events.step("data", "cnn"):
        raise ValueError("no data")
    assert [(it["event"], it.get("status"), it.get("reason")) for it in listener.wait()] == [
        ("start", None, None),
        ("end", "failed", "no data"),
    ]
    listener.close()


def test_the_page_never_waits_for_a_timed_leg():
    quiet = {"device": "test-of-bench", "say": print, "shared": True, "wait": False}
    with isolation.device_lock("test-of-bench", print), isolation.device_lock(**quiet) as held:
        assert not held
    with isolation.device_lock(**quiet) as held:
        assert held


def test_the_last_page_is_not_replaced_by_one_of_the_running_pipeline(watch, monkeypatch):
    watch, _ = watch
    bench.REPORTS.mkdir()
    for name in ("numpy", "modern"):
        for event in ended("environment", name):
            watch.take(event)
    listener, page, written = events.Listener(), bench.RunningPage(watch.plan, wanted=True), []
    monkeypatch.setattr(page, "write", lambda watch, line: written.append(line))
    monkeypatch.setattr(isolation, "device_lock", lambda *given, **named: bench.contextmanager(lambda: iter([True]))())
    page.renew(listener, watch)
    assert len(written) == 1
    assert written[0].startswith("Running: 0 of 3 proven")
    with bench.page_lock():  # as the last step does: it speaks, writes and lets go
        listener.wake("start", kind="report", name="reports", number=0)
        page.renew(listener, watch)
    page.renew(listener, watch)
    assert len(written) == 1
    listener.close()


def test_a_page_of_a_run_that_stopped_says_so_and_is_older_than_every_record(watch, tmp_path):
    watch, said = watch
    bench.REPORTS.mkdir()
    page = bench.RunningPage(watch.plan, wanted=True)
    page.last(watch)
    assert not (bench.REPORTS / "summary.html").exists()
    page.write(watch, "Running: 0 of 3 proven.")
    watch.take(ended("proof", "python/jax/cnn")[0])
    page.last(watch)
    text = (bench.REPORTS / "summary.html").read_text()
    assert "Stopped: 0 of 3 proven. The next run goes on from here." in text
    assert watch.states["python/jax/cnn"] == "waiting"
    assert said() == ["To do: 3 legs."]
    planned = snakemake("--dry-run", "reports/summary.html", workdir=tmp_path, config=NUMPY)
    assert "rule round_1_python_numpy_cnn:" in planned.stdout, "such a page keeps nothing from being done"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_last_page_that_was_not_finished_is_replaced_by_one_that_says_stopped(watch, is_there):
    """Snakemake removes what a step that fails was to write. A page that is there is the last one, and stays."""
    watch, _ = watch
    summary = bench.REPORTS / "summary.html"
    bench.REPORTS.mkdir()
    if is_there:
        summary.write_text("the last page")
    page = bench.RunningPage(watch.plan, wanted=True)
    for event in ended("report", "reports", status="failed", reason="disk full"):
        watch.take(event)
    page.last(watch)
    assert ("Stopped: " in summary.read_text()) != is_there


def test_the_target_all_means_what_no_target_means():
    assert bench.files_of([]) == bench.files_of(["all"]) == ["reports/summary.html", "reports/rosetta.html"]
    assert bench.files_of(["julia"]) == ["julia"]


def test_a_closed_terminal_ends_a_run_unless_nohup_keeps_it():
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        bench.end_with_the_terminal()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        bench.end_with_the_terminal()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_two_steps_that_nobody_times_run_side_by_side_on_three_cores_too(tmp_path):
    """By a small pipeline with the limits of the real one."""
    source = (config.ROOT / "Snakefile").read_text()
    limits = [line for line in source.splitlines() if line.startswith(("HALF =", "workflow.register_resource"))]
    assert len(limits) == 2
    assert source.count("pair=1") == 2
    (tmp_path / "Snakefile").write_text("\n".join([*limits, SIDE_BY_SIDE]))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "3", "--directory", tmp_path, "-s", tmp_path / "Snakefile"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert max(map(int, (tmp_path / "seen").read_text().split())) == 2


SIDE_BY_SIDE = """
rule all:
    input: [f"{letter}.txt" for letter in "abcd"]
rule one:
    output: "{letter}.txt"
    threads: HALF
    resources: pair=1
    shell: "touch run-{wildcards.letter}; sleep 0.5; ls run-* | wc -l >> seen; sleep 0.3; rm run-{wildcards.letter}; touch {output}"
"""


# From end to end


def test_a_wrong_word_is_one_line_before_anything_starts(tmp_path):
    for arguments, word in (
        (("-l", "python/nump"), "python/nump"),
        (("-c", "profile=slow"), "slow"),
        (("-c", "profile"), "KEY=VALUE"),
        (("-l", ","), "legs: name at least one leg, group or language"),
        (("-l", "1"), "'1'"),
        (("-l", "true"), "'true'"),
        (("-l", "null"), "'null'"),
        (("-l", "#core"), "'#core'"),
        (("-c", "budget_seconds="), "write a number of seconds, or null"),
    ):
        done = rosetta("bench", *arguments, workdir=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert word in done.stderr
    assert not (tmp_path / "reports").exists()


def test_what_snakemake_refuses_is_said_with_its_log(tmp_path):
    done = rosetta("bench", "reports/no-such-page.html", workdir=tmp_path, config=NUMPY)
    assert done.returncode == 1
    assert "no-such-page" in done.stdout
    assert "reports/logs/snakemake.log" in done.stdout


def test_a_run_says_what_it_does_in_plain_lines_and_an_interrupt_leaves_no_process(tmp_path):
    """Interrupted in its first proof; then run to the end; then run again with nothing to do."""
    run = subprocess.Popen(
        command("bench", config=NUMPY), env=variables(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    worker = None
    while worker is None:
        assert run.poll() is None, run.stdout.read()
        family = psutil.Process(run.pid).children(recursive=True)
        worker = next((it for it in family if "rosetta.worker" in command_line(it)), None)
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "what was finished before is kept" in said
    assert "Traceback" not in said
    assert not [it for it in family if it.is_running() and it.status() != psutil.STATUS_ZOMBIE]
    page = tmp_path / "reports/summary.html"
    # There is no page yet where another pipeline was timing a leg on this machine.
    assert not page.exists() or "Stopped: " in page.read_text()

    done = rosetta("bench", workdir=tmp_path, config=NUMPY)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("To do: 2 legs (2 proofs, 4 rounds)")
    for name in ("python/numpy/cnn", "python/numpy/rnn"):
        assert any(line.startswith(f"{name} proven (") for line in lines)
        assert any(line.startswith(f"{name} timed (") for line in lines)
    assert lines[-1] == "2 legs of 2 proven and timed."
    assert ESCAPE not in done.stdout + done.stderr
    assert "Stopped" not in page.read_text()
    assert page.stat().st_mtime > 1e9
    log = tmp_path / "reports/logs/snakemake.log"
    assert "steps (100%) done" in log.read_text()
    assert log.with_name("snakemake.log.1").exists()

    again = rosetta("bench", workdir=tmp_path, config=NUMPY)
    assert again.returncode == 0
    assert len(again.stdout.splitlines()) == 1
    assert "nothing had to be done" in again.stdout


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_settings_reach_snakemake_with_dots_as_mappings():
    given = ["profile=smoke", "work.cnn.epochs=8", "work.rnn.batch=4"]
    assert config.for_snakemake(given) == ["profile=smoke", 'work={"cnn": {"epochs": "8"}, "rnn": {"batch": "4"}}']
