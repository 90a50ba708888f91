"""The command line: what it says, and the exit codes that scripts use."""

import importlib.metadata
import importlib.util
import io
import json
import shutil
import subprocess

import pytest
import typer
from conftest import SMOKE, records_of, rosetta
from rich.console import Console
from rosetta import cli, config, diagnosis, environments, frameworks, measuring
from rosetta.frameworks import discover
from rosetta.plan import Plan

COMMANDS = ("list", "doctor", "prepare", "setup", "new", "run", "verify", "bench", "report", "stone", "clean")


def test_help_has_examples(tmp_path):
    for command in COMMANDS:
        done = rosetta(command, "--help", workdir=tmp_path)
        assert done.returncode == 0
        assert f"Example: rosetta {command}" in done.stdout.replace("`", ""), command


def test_list_has_a_row_for_each_framework_whole_where_it_is_piped(tmp_path):
    shown = rosetta("list", workdir=tmp_path, COLUMNS="80").stdout.splitlines()[1:]
    rows = {line.split()[0]: line for line in shown}
    assert list(rows) == list(dict.fromkeys(leg.name.rpartition("/")[0] for leg in discover()))
    for leg in discover():
        name = leg.name.rpartition("/")[0]
        words = (leg.framework.title, leg.framework.group, " ".join(leg.framework.tasks), *leg.framework.precisions)
        assert all(word in rows[name] for word in words)
    rows = json.loads(rosetta("list", "--json", workdir=tmp_path).stdout)
    assert [row["leg"] for row in rows] == [leg.name for leg in discover()]
    assert {row["group"] for row in rows} == set(frameworks.GROUPS)


@pytest.fixture
def list_on(tmp_path, monkeypatch):
    """What `rosetta list` shows on a terminal of so many columns."""

    def shown(columns: int) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(cli, "out", Console(width=columns, file=io.StringIO()))
        cli.list_legs()
        return cli.out.file.getvalue()

    return shown


def test_list_cuts_no_word_on_a_terminal_of_80_columns(list_on):
    shown = list_on(80)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for leg in discover():
        assert f"{leg.framework.language}/{leg.framework.name} " in shown
        assert all(word in shown for word in (*leg.framework.title.split(), *leg.framework.precisions))


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_hands_the_legs_on_as_they_are(tmp_path):
    """The shell neither replaces a pattern by the files that it matches nor reads a quote."""

    stub = tmp_path / "rosetta"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stub.chmod(0o755)

    def given(*words):
        make = ["make", "-s", "report", f"BIN={tmp_path}", "PYTHON=true", *words]
        return subprocess.run(make, cwd=config.ROOT, capture_output=True, text=True, check=True).stdout.splitlines()

    assert given("LEGS=python/pytorch/* r*") == ["bench", "--legs", "python/pytorch/* r*"]
    assert given("LEGS=a'b", 'CONFIG=data_folder=a"b') == ["bench", "--legs", "a'b", "-c", 'data_folder=a"b']
    both = given("LEGS=core more", "CONFIG=profile=smoke legs=*")
    assert both == ["bench", "--legs", "core more", "-c", "profile=smoke", "-c", "legs=*"]
    assert given() == ["bench"]


def test_list_leaves_columns_out_rather_than_cut_a_task_on_50_columns(list_on):
    shown = list_on(50)
    assert "…" not in shown
    assert all(task in shown for task in ("cnn", "rnn", "resnet50"))
    assert all(f"{leg.framework.language}/{leg.framework.name} " in shown for leg in discover())
    assert "A wider terminal shows" in shown


def leg_state(name, state="ready", reason="", mend=""):
    return {"leg": name, "group": "core", "state": state, "reason": reason, "mend": mend}


def test_doctor_joins_the_tasks_that_are_alike_and_what_the_same_command_mends():
    old = ("unavailable", "there is no Python 3.6; install it", "as it says, then rosetta setup cntk")
    rows = diagnosis.together(
        [
            leg_state("python/jax/cnn", "not set up", "not made yet", "rosetta setup modern"),
            leg_state("python/jax/rnn", "not set up", "not made yet", "rosetta setup modern"),
            leg_state("python/cntk/cnn", *old),
            leg_state("python/numpy/cnn"),
            leg_state("python/pytorch/cnn", "not set up", "not made yet", "rosetta setup modern"),
            leg_state("r/torch/cnn"),
            leg_state("r/torch/rnn", "unsupported", "no rnn"),
        ]
    )
    assert [row.name for row in rows] == [
        *("python/numpy", "r/torch/cnn"),
        *("python/jax", "python/pytorch"),
        *("python/cntk", "r/torch/rnn"),
    ]


def test_doctor_says_a_reason_once_and_cuts_nothing_in_80_columns():
    reason = "a driver of CUDA 13 is needed, " + "and this is a long story " * 5
    names = ("python/keras-tensorflow", "julia/flux-gru")
    legs = [leg_state(f"{name}/{task}", "unavailable", reason) for name in names for task in ("cnn", "rnn")]
    machine = {"processor": "a processor", "threads": 2, "memory_gib": 8, "system": "Linux", "gpus": []}
    found = {"machine": machine, "threads": 2, "blas": [], "other_load_percent": 0, "environments": {}, "legs": legs}
    console = Console(width=80, file=io.StringIO())
    diagnosis.show(found, console)
    shown = console.file.getvalue()
    assert "…" not in shown
    assert shown.count("a driver of CUDA 13") == 1
    for name in names:
        assert f"{name} " in shown
    assert shown.count("see (1)") == 2


def test_setup_without_a_name_makes_what_the_configured_legs_need(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROSETTA_WORKDIR", str(tmp_path))
    made = []
    monkeypatch.setattr(
        measuring, "provide", lambda plan, name, say: made.append(name) or {"status": "ready", "reason": ""}
    )
    for names, legs, wanted in (
        (None, "core/python", ["modern", "mxnet", "numpy", "tensorflow"]),
        (None, "core more", ["julia", "knet", "modern", "more", "mxnet", "numpy", "r", "rkeras", "rmxnet", "rtorch", "tensorflow"]),
        (["chainer"], "core", ["chainer"]),
    ):  # fmt: skip
        with pytest.raises(typer.Exit) as ended:
            cli.setup(names, [f"legs={legs}"])
        assert ended.value.exit_code == 0
        assert made == wanted
        made.clear()


def test_doctor_says_how_to_mend_what_is_missing(tmp_path):
    found = json.loads(rosetta("doctor", "--json", workdir=tmp_path).stdout)
    legs = {leg["leg"]: leg for leg in found["legs"]}
    assert legs["python/numpy/cnn"]["state"] == "not set up"
    assert legs["python/numpy/cnn"]["mend"] == "rosetta setup numpy"
    assert found["threads"] >= 1
    assert found["blas"]
    assert found["other_load_percent"] >= 0


def leave_marker(workdir, reason):
    """What a set-up of the environment `julia` leaves, where it is unavailable."""
    plan = Plan.of(config.load({}))
    marker = workdir / plan.environment("julia")
    marker.parent.mkdir(parents=True)
    made = {
        "status": "unavailable",
        "reason": reason,
        "python": "",
        "lock": environments.lock_sha256("julia"),
        "toolchain": None,
    }
    marker.write_text(json.dumps({**made, "situation": environments.situation("julia", plan.settings)}))


def test_doctor_shows_the_language_before_any_set_up(tmp_path):
    julia = tmp_path / "julia"
    julia.write_text('#!/bin/sh\necho "julia version 1.11.2"\n')
    julia.chmod(0o755)
    shown = rosetta("doctor", workdir=tmp_path, ROSETTA_JULIA=str(julia), config=("threads=2",)).stdout
    line = next(line for line in shown.splitlines() if line.startswith("julia: "))
    assert "version 1.11.2; origin ROSETTA_JULIA" in line
    assert "threads: 1 of Julia, 2 of BLAS" in line


def test_doctor_sends_nobody_to_a_set_up_that_cannot_help(tmp_path, monkeypatch):
    """What a reason says is to be done first, unless the situation has changed since."""
    monkeypatch.delenv("JULIA_PKG_SERVER", raising=False)
    leave_marker(tmp_path, "there is no julia; install Julia 1.10")
    mends = []
    for extra in ({}, {"JULIA_PKG_SERVER": "https://mirror"}):
        found = json.loads(rosetta("doctor", "--json", workdir=tmp_path, **extra).stdout)
        mends += [leg["mend"] for leg in found["legs"] if leg["leg"] == "julia/base/cnn"]
    assert mends == ["as it says, then rosetta setup julia", "rosetta setup julia"]


def test_doctor_says_ready_after_a_run(smoke):
    found = json.loads(rosetta("doctor", "--json", workdir=smoke, config=SMOKE).stdout)
    states = {leg["leg"]: leg["state"] for leg in found["legs"]}
    assert states["python/numpy/cnn"] == "ready"
    assert states["python/pytorch/resnet50"] == "ready"
    assert "ready" in rosetta("doctor", workdir=smoke, config=SMOKE).stdout


def test_a_device_that_a_framework_lacks_is_said(tmp_path):
    found = json.loads(rosetta("doctor", "--json", workdir=tmp_path, config=("device=cuda",)).stdout)
    legs = {leg["leg"]: leg for leg in found["legs"]}
    assert legs["python/numpy/cnn"]["state"] == "unsupported"
    assert "cuda" in legs["python/numpy/cnn"]["reason"]


@pytest.mark.parametrize(
    ("arguments", "config", "word"),
    [
        (["run", "python/nmupy/cnn"], (), "python/nmupy/cnn"),
        (["verify", "fortran"], (), "fortran"),
        (["prepare", "gan"], (), "cnn, rnn, resnet50"),
        (["setup", "tensorflo"], (), "did you mean tensorflow?"),
        (["clean", "report"], (), "did you mean reports?"),
        (["run", "moer"], (), "did you mean more?"),
        (["setup"], ("legs=moer",), "did you mean more?"),
        (["run", "python/numpy/cnn"], ("profile=quik",), "quik"),
        (["run", "python/numpy/cnn"], ("profile",), "KEY=VALUE"),
    ],
)
def test_wrong_words_are_usage_errors_of_one_line(tmp_path, arguments, config, word):
    done = rosetta(*arguments, workdir=tmp_path, config=config)
    assert done.returncode == 2
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_working_folder_that_is_not_there_is_said(tmp_path):
    done = rosetta("list", workdir=tmp_path / "nowhere")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"rosetta: ROSETTA_WORKDIR: there is no folder {tmp_path / 'nowhere'}; make it, or unset the variable\n"
    )


def test_run_shows_losses_and_writes_records(tmp_path):
    config = (*SMOKE, "rounds=1")
    done = rosetta("run", "python/numpy/rnn", workdir=tmp_path, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loss 0." in done.stdout
    assert "accuracy" in done.stdout
    assert (records_of(tmp_path, config) / "python/numpy/rnn.json").exists()
    done = rosetta("report", workdir=tmp_path, config=config)
    assert done.returncode == 0, done.stderr
    assert "no record of r/base/cnn" in done.stderr
    assert (tmp_path / "reports/summary.html").exists()


def test_legs_run_in_the_interpreter_at_hand_with_what_it_can_import(tmp_path):
    """deployment: current. Nothing is made; a cluster's modules put packages on PYTHONPATH, and those count."""
    config = ("profile=smoke", "data=synthetic", "rounds=1", "deployment=current")
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "chainer.py").write_text("raise ImportError('the chainer of this cluster is broken')\n")
    done = rosetta("run", "python/numpy/rnn", workdir=tmp_path, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads((records_of(tmp_path, config) / "python/numpy/rnn.json").read_text())["rounds"]
    assert run["provenance"]["lock_sha256"] == ""
    assert run["versions"]["numpy"] == importlib.metadata.version("numpy")
    done = rosetta("verify", "python/chainer/cnn", workdir=tmp_path, config=config, PYTHONPATH=str(modules))
    assert done.returncode != 0
    assert "the chainer of this cluster is broken" in done.stdout
    done = rosetta("doctor", "--json", workdir=tmp_path, config=config)
    states = {leg["leg"]: leg for leg in json.loads(done.stdout)["legs"]}
    assert states["python/numpy/rnn"]["state"] == "ready"
    if importlib.util.find_spec("cntk") is None:
        assert "cntk cannot be imported in" in states["python/cntk/rnn"]["reason"]


def test_an_impossible_device_is_unsupported_with_exit_code_3(smoke):
    done = rosetta("verify", "python/numpy/cnn", workdir=smoke, config=(*SMOKE, "device=cuda"))
    assert done.returncode == 3
    assert "unsupported" in done.stdout
    assert "cuda" in done.stdout
