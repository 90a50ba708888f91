"""The pipeline end to end, on synthetic data: what a user relies on after one command, and when something breaks."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import SMOKE, command, pipeline, records_of, required, rosetta, sample_legs, snakemake, variables
from rosetta import config, environments, prepare, records
from rosetta.plan import Plan
from rosetta.tasks import TASKS

RECORDS = Path("reports/records/smoke/cpu-fp32")
COLUMNS = {
    *("leg", "language", "framework", "task", "status", "reason", "proof", "device", "precision", "profile", "data"),
    *("seconds_median", "seconds_low", "seconds_high", "samples_per_second", "first_step_seconds", "accuracy"),
    "peak_memory_mb",
}


@pytest.fixture
def workdir(smoke, tmp_path) -> Path:
    """A copy of the finished smoke run that a test may break. Copied with its times, so that nothing looks changed."""
    target = tmp_path / "copy"
    shutil.copytree(smoke, target, copy_function=linked)
    return target


def linked(source: str, target: str) -> None:
    """Hard links for the large arrays; what a test may write to is copied."""
    if source.endswith(".npy"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def forget(workdir: Path, task: str, number: int) -> None:
    """Removes a round of NumPy and all that was made from it."""
    numpy = workdir / RECORDS / "python/numpy"
    for path in (numpy / task / f"round-{number}.json", numpy / f"{task}.json", workdir / "reports/summary.html"):
        path.unlink(missing_ok=True)


def results(workdir: Path) -> pd.DataFrame:
    return pd.read_csv(workdir / "reports" / "results.csv").set_index("leg")


def test_every_leg_is_in_the_results_with_its_outcome(smoke):
    table = results(smoke)
    assert {"leg", *table.columns} >= COLUMNS
    assert sorted(table.index) == sorted(leg.name for leg in sample_legs())
    python = table[table.language == "python"]
    assert (python.status == "ok").all()
    assert (python.proof == "exact").all()
    assert python.seconds_median.notna().all()
    assert table.reason[table.status != "ok"].notna().all()
    assert set(table.status) <= {"ok", "unavailable"}, table[["status", "reason"]].to_string()


def test_three_languages_where_this_machine_has_them(smoke):
    """`unavailable` is accepted only where the set-up says that it could not provide the environment, or packages of the leg's language."""
    table = results(smoke)
    for leg in sample_legs():
        name = leg.framework.environment
        made = json.loads((smoke / f"shared_data/environments/{name}-cpu-isolated.json").read_text())
        has_to_run = made["status"] == "ready" or required(name)
        expected = "ok" if has_to_run and not environments.lacking(leg, made) else "unavailable"
        assert table.status[leg.name] == expected, table.reason[leg.name]
    assert shutil.which("R") is None or (table.status[["r/base/cnn", "r/base/rnn"]] == "ok").all()


def test_all_forms_of_the_report_are_written(smoke):
    for name in ("summary.html", "summary.md", "results.csv", "results.json", "results.parquet"):
        assert (smoke / "reports" / name).stat().st_size > 500, name
    page = (smoke / "reports" / "summary.html").read_text()
    assert "synthetic" in page
    assert 'http-equiv="refresh"' not in page
    parquet = pd.read_parquet(smoke / "reports" / "results.parquet")
    assert sorted(parquet.leg) == sorted(results(smoke).index)


def test_records_keep_every_raw_sample_and_their_provenance(smoke):
    leg = records.read(smoke / RECORDS / "python/numpy/cnn.json")
    assert [record["round"] for record in leg["rounds"]] == [1, 2]
    for record in leg["rounds"]:
        epochs = [phase for phase in record["phases"] if phase["phase"] == "epoch"]
        assert [len(phase["losses"]) for phase in epochs] == [4, 4]
        assert record["provenance"]["lock_sha256"]
        assert record["data"]["source"] == "synthetic"
        assert record["versions"]["numpy"]
        assert 0 < record["utilisation"] < 1
    assert {d["precision"] for d in leg["proof"]["differences"]} == {"fp64", "fp32"}


def test_the_same_algorithm_in_three_languages_has_the_same_losses(smoke):
    """The rnn has no dropout: every language and library trains it on the same batches from the same weights."""
    table = results(smoke)
    ready = [
        name
        for name in ("python/numpy", "python/pytorch", "python/keras-tensorflow", "julia/base", "r/base")
        if table.status[f"{name}/rnn"] == "ok"
    ]
    losses = [
        [
            phase["losses"]
            for phase in records.read(smoke / RECORDS / name / "rnn.json")["rounds"][0]["phases"]
            if phase["phase"] == "epoch"
        ]
        for name in ready
    ]
    assert len(ready) >= 2
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-4)


def test_snakemake_makes_its_own_report_of_the_results(smoke, tmp_path):
    done = snakemake("--report", str(tmp_path / "report.html"), "reports/summary.html", workdir=smoke)
    assert done.returncode == 0, done.stderr[-2000:]
    page = (tmp_path / "report.html").read_text()
    assert "All languages" in page
    assert "One row a leg" in page


def test_nothing_changed_means_nothing_to_do(smoke):
    done = snakemake("--dry-run", "reports/summary.html", workdir=smoke)
    assert "Nothing to be done" in done.stdout + done.stderr, done.stdout[-2000:]


def jobs(done: subprocess.CompletedProcess) -> set[str]:
    """Names of the rules that a dry run would run."""
    table = (done.stdout + done.stderr).rpartition("Job stats:")[2].splitlines()[3:]
    return {line.split()[0] for line in table[: [line.split()[:1] for line in table].index(["total"])]}


def test_a_changed_setting_reruns_only_what_it_touches(smoke):
    again = jobs(snakemake("--dry-run", "reports/summary.html", workdir=smoke, config=(*SMOKE, "warm_up=2")))
    assert "round_1_python_numpy_cnn" in again
    assert not again & {"proof", "golden", "arrays", "weights", "environment"}
    again = jobs(snakemake("--dry-run", "reports/summary.html", workdir=smoke, config=(*SMOKE, "proof_steps=1")))
    assert {"proof", "golden"} <= again
    assert not any(name.startswith("round") for name in again)
    again = jobs(snakemake("--dry-run", "reports/summary.html", workdir=smoke, config=(*SMOKE, "threads=1")))
    assert {"round_1_python_numpy_cnn", "round_2_python_numpy_rnn"} <= again
    assert "proof" not in again, "proofs on a CPU have one thread each, whatever the setting"


def test_every_leg_is_proven_before_any_is_timed(smoke):
    """By priorities alone: a round does not depend on a proof."""
    lines = map(json.loads, (smoke / "reports/history.jsonl").read_text().splitlines())
    kinds = [record["kind"] for record in lines if record["device"] == "cpu"]
    assert kinds == sorted(kinds)
    assert set(kinds) == {"proof", "round"}


def test_an_interrupted_run_resumes_with_what_is_missing(workdir):
    """The pipeline is killed in the middle of a leg, together with everything it started, and started again as `make` does."""
    forget(workdir, "rnn", 2)
    forget(workdir, "cnn", 2)
    run = pipeline("reports/summary.html", workdir=workdir)
    process = subprocess.Popen(run, env=variables(workdir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 300
    while not workers(process.pid):
        assert time.time() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()
    again = snakemake("--nolock", "--rerun-incomplete", "--dry-run", "reports/summary.html", workdir=workdir)
    assert {"round_2_python_numpy_rnn", "round_2_python_numpy_cnn"} & jobs(again)
    assert jobs(again) <= {"round_2_python_numpy_rnn", "round_2_python_numpy_cnn", "record", "report"}
    done = snakemake("--nolock", "--rerun-incomplete", "reports/summary.html", workdir=workdir)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (results(workdir).rounds_ok[["python/numpy/cnn", "python/numpy/rnn"]] == 2).all()


def test_real_data_takes_the_place_of_the_synthetic_fallback(workdir):
    """Whoever had no network and then names a folder with the archives gets them, without having to delete anything."""
    marker = workdir / "shared_data/cnn/arrays.json"
    marker.write_text(json.dumps({"generation": 1, "source": "synthetic", "sha256": ""}))
    settings = config.load({"profile": "smoke"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workdir)
        plan = Plan.of(settings)
        patch.delenv("ROSETTA_DATA_DIR", raising=False)
        assert prepare.data_generation(plan, TASKS["cnn"]) == 1
        patch.setenv("ROSETTA_DATA_DIR", str(workdir))
        assert prepare.data_generation(plan, TASKS["cnn"]) == 2


def test_one_language_and_one_leg_are_targets(smoke):
    again = jobs(snakemake("--dry-run", "--forceall", "python", workdir=smoke))
    assert "language_report" in again
    assert not any("julia" in name or name.startswith(("round_1_r", "round_2_r")) for name in again)
    again = jobs(snakemake("--dry-run", "--forceall", str(RECORDS / "python/numpy/rnn.json"), workdir=smoke))
    assert {name for name in again if name.startswith("round")} == {
        "round_1_python_numpy_rnn",
        "round_2_python_numpy_rnn",
    }


def test_lint_is_clean(smoke):
    done = snakemake("--lint", workdir=smoke)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_leg_that_times_out_stops_no_other_and_no_result_is_lost(workdir):
    """The time limit is cut to nothing and every leg fails at it, the report shows it, and the history keeps the good ones."""
    before = (workdir / "reports" / "history.jsonl").read_text()
    target, settings = "reports/python/summary.html", (*SMOKE[:-1], "legs=python/numpy")
    for path in (workdir / RECORDS / "python/numpy").rglob("*.json"):
        path.unlink()
    done = snakemake(target, workdir=workdir, config=(*settings, "timeout_seconds=0.05"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = pd.read_csv(workdir / "reports/python/results.csv").set_index("leg")
    # Legs that are not asked for are shown as well, where their records still hold.
    assert set(table.status[table.framework == "numpy"]) == {"timeout"}
    assert "0.05 s" in table.reason["python/numpy/cnn"]
    assert "timeout" in (workdir / "reports/python/summary.html").read_text()
    history = (workdir / "reports" / "history.jsonl").read_text()
    assert history.startswith(before)
    assert results(workdir).status["python/numpy/cnn"] == "ok"
    # The same limit would end them again; a higher one may not.
    again = snakemake("--dry-run", target, workdir=workdir, config=(*settings, "timeout_seconds=0.05"))
    assert "Nothing to be done" in again.stdout + again.stderr
    again = jobs(snakemake("--dry-run", target, workdir=workdir, config=settings))
    assert {"proof", "round_1_python_numpy_cnn", "round_2_python_numpy_rnn"} <= again


def test_a_record_that_no_longer_holds_is_made_again(workdir):
    """What kept a leg from starting is gone, a round was timed by hand with other settings, one cannot be read: once more, and then no more."""
    first, second = (workdir / RECORDS / f"python/numpy/rnn/round-{number}.json" for number in (1, 2))
    never = {"status": "unavailable", "reason": "a compiler is missing", "outer_seconds": 0.0, "phases": []}
    records.write(first, {**records.read(first), **never})
    by_hand = records.read(second)
    by_hand["provenance"]["step_sha256"] = "that of other settings"
    records.write(second, by_hand)
    (workdir / RECORDS / "python/numpy/cnn/round-1.json").write_text("{")
    rounds = {"round_1_python_numpy_rnn", "round_2_python_numpy_rnn", "round_1_python_numpy_cnn"}
    again = jobs(snakemake("--dry-run", "reports/summary.html", workdir=workdir))
    assert again >= rounds
    assert again <= {*rounds, "record", "report"}
    done = snakemake("reports/summary.html", workdir=workdir)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = records.read(workdir / RECORDS / "python/numpy/rnn.json")["rounds"]
    assert [(it["status"], it["provenance"]["attempt"]) for it in found] == [("ok", 2), ("ok", 2)]
    done = snakemake("--dry-run", "reports/summary.html", workdir=workdir)
    assert "Nothing to be done" in done.stdout + done.stderr, done.stdout[-2000:]


def test_a_killed_leg_is_shown_and_the_next_one_runs(workdir):
    """Someone kills the worker of the first leg: its record says so, and the other leg ends well."""
    settings = (*SMOKE, "rounds=1", "work.cnn.epochs=100000")
    legs = ["python/numpy/cnn", "python/numpy/rnn"]
    output = workdir / "run.log"
    with open(output, "w") as file:
        run = command("run", *legs, config=settings)
        process = subprocess.Popen(run, env=variables(workdir), stdout=file, stderr=subprocess.STDOUT)
    deadline = time.time() + 300
    while "python/numpy/cnn, round 1" not in output.read_text() or not (worker := workers(process.pid)):
        assert time.time() < deadline, output.read_text()
        assert process.poll() is None, output.read_text()
        time.sleep(0.1)
    worker[0].send_signal(signal.SIGKILL)
    assert process.wait(300) == 1, output.read_text()
    killed = json.loads((records_of(workdir, settings) / "python/numpy/cnn/round-1.json").read_text())
    assert (killed["status"], "SIGKILL" in killed["reason"]) == ("failed", True)
    assert json.loads((records_of(workdir, settings) / "python/numpy/rnn/round-1.json").read_text())["status"] == "ok"


def workers(pid: int) -> list[psutil.Process]:
    """The workers below a process; one that is just beginning or ending is passed over."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "rosetta.worker" in child.cmdline():
                found.append(child)
    return found


def test_a_stopped_run_leaves_no_worker_behind(workdir):
    run = command("run", "python/numpy/cnn", config=(*SMOKE, "work.cnn.epochs=100000"))
    process = subprocess.Popen(run, env=variables(workdir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 300
    while not (found := workers(process.pid)):
        assert time.time() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(found, timeout=10)
    assert not alive


def test_a_truncated_array_is_named_and_other_tasks_go_on(workdir):
    array = workdir / "shared_data/cnn/synthetic/y_train.npy"
    whole = array.read_bytes()
    array.unlink()  # a hard link: the original stays whole
    array.write_bytes(whole[: len(whole) // 2])
    os.utime(array, (0, 0))
    forget(workdir, "cnn", 1)
    forget(workdir, "rnn", 1)
    done = snakemake("reports/summary.html", workdir=workdir)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    broken = json.loads((workdir / RECORDS / "python/numpy/cnn/round-1.json").read_text())
    assert broken["status"] == "failed"
    assert "y_train" in broken["reason"]
    assert json.loads((workdir / RECORDS / "python/numpy/rnn/round-1.json").read_text())["status"] == "ok"
    kept = results(workdir).loc["python/numpy/cnn"]
    assert kept.status == "ok"
    assert "y_train" in kept.warnings


def test_two_pipelines_at_once_take_turns(workdir, tmp_path):
    """The second one waits for the device, says so, and both end well."""
    other = tmp_path / "other"
    shutil.copytree(workdir, other, copy_function=linked)
    run = command("run", "python/numpy/cnn", config=(*SMOKE, "rounds=3", "work.cnn.epochs=6"))
    started = [
        subprocess.Popen(run, env=variables(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for place in (workdir, other)
    ]
    texts = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], texts
    assert any("another measurement holds cpu" in text for text in texts)


@pytest.mark.thorough
def test_real_archives_run_where_a_folder_holds_them(tmp_path):
    """The whole pipeline on CIFAR-10 and IMDB, with consent to archives that are not the published ones."""
    folder = os.environ.get("ROSETTA_DATA_DIR")
    if not folder:
        pytest.skip("ROSETTA_DATA_DIR names no folder with cifar-10-binary.tar.gz and aclImdb_v1.tar.gz")
    config = ("profile=smoke", "data=real", "accept_other_checksum=true", "legs=python/numpy", "rounds=1")
    done = snakemake("reports/summary.html", workdir=tmp_path, config=config, ROSETTA_DATA_DIR=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = results(tmp_path)
    assert (table.status == "ok").all(), table.reason.to_string()
    assert not table.data.str.contains("synthetic").any()
    images = np.load(tmp_path / "shared_data/cnn/arrays/x_train.npy", mmap_mode="r")
    assert (images.shape, images.dtype) == ((50_000, 3, 32, 32), np.float32)
    reviews = np.load(tmp_path / "shared_data/rnn/arrays/x_train.npy", mmap_mode="r")
    assert (reviews.shape, reviews.max() < 30_000) == ((25_000, 150), True)


def test_a_wrong_checksum_stops_with_one_line(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"not the archive")
    done = rosetta("prepare", "cnn", workdir=tmp_path, config=("data=real",), ROSETTA_DATA_DIR=str(folder))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "checksum" in lines[0]
    assert "accept_other_checksum" in lines[0]
    assert not (tmp_path / "shared_data/cnn/arrays").exists()


def test_a_bad_setting_stops_the_pipeline_with_its_name(tmp_path):
    done = snakemake("reports/summary.html", workdir=tmp_path, config=("profile=smoke", "device=gpu"))
    assert done.returncode != 0
    assert "device: 'gpu' is not one of" in done.stdout + done.stderr
    done = snakemake("reports/summary.html", workdir=tmp_path, config=("legs=python/torch/cnn",))
    assert done.returncode != 0
    assert "'python/torch/cnn'; did you mean python/pytorch/cnn?" in done.stdout + done.stderr
    done = snakemake("julia", workdir=tmp_path, config=("legs=python/numpy",))
    assert done.returncode != 0
    assert "legs: 'python/numpy' means no leg of julia; add --config legs=julia" in done.stdout + done.stderr
