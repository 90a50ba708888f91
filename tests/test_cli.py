"""The command line: what it says, and the exit codes that scripts use."""

import json

import pytest
from conftest import SMOKE, records_of, rosetta
from rosetta.frameworks import discover

COMMANDS = ("list", "doctor", "prepare", "setup", "new", "run", "verify", "report", "stone")


def test_help_has_examples(tmp_path):
    for command in COMMANDS:
        done = rosetta(command, "--help", workdir=tmp_path)
        assert done.returncode == 0
        assert f"Example: rosetta {command}" in done.stdout.replace("`", ""), command


def test_list_names_every_leg(tmp_path):
    legs = [leg.name for leg in discover()]
    done = rosetta("list", workdir=tmp_path)
    assert all(name in done.stdout for name in legs)
    rows = json.loads(rosetta("list", "--json", workdir=tmp_path).stdout)
    assert [row["leg"] for row in rows] == legs


def test_doctor_says_how_to_mend_what_is_missing(tmp_path):
    found = json.loads(rosetta("doctor", "--json", workdir=tmp_path).stdout)
    legs = {leg["leg"]: leg for leg in found["legs"]}
    assert legs["python/numpy/cnn"]["state"] == "not set up"
    assert legs["python/numpy/cnn"]["mend"] == "rosetta setup numpy"
    assert found["threads"] >= 1
    assert found["blas"]
    assert found["other_load_percent"] >= 0


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
        (["setup", "tensorflo"], (), "tensorflo"),
        (["run", "python/numpy/cnn"], ("profile=quik",), "quik"),
        (["run", "python/numpy/cnn"], ("profile",), "KEY=VALUE"),
    ],
)
def test_wrong_words_are_usage_errors_of_one_line(tmp_path, arguments, config, word):
    done = rosetta(*arguments, workdir=tmp_path, config=config)
    assert done.returncode == 2
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


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


def test_an_impossible_device_is_unsupported_with_exit_code_3(smoke):
    done = rosetta("verify", "python/numpy/cnn", workdir=smoke, config=(*SMOKE, "device=cuda"))
    assert done.returncode == 3
    assert "unsupported" in done.stdout
    assert "cuda" in done.stdout
