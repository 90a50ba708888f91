"""`rosetta clean`: each thing by its name, and nothing that is not named."""

import pytest
from conftest import rosetta
from rich.console import Console
from rosetta import bench, cleaning


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A working folder in which everything was made once; the folder of the environments holds the user's own files too."""
    places = {"ROSETTA_ENVIRONMENTS": tmp_path / "environments", "ROSETTA_WORKDIR": tmp_path}
    for name, place in places.items():
        monkeypatch.setenv(name, str(place))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cleaning, "LANGUAGES", (tmp_path / ".julia", tmp_path / ".r"))
    monkeypatch.setattr(cleaning.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    for path in (
        *("reports/summary.html", "reports/history.jsonl", "reports/records/quick/cpu-fp32/r/base/cnn.json"),
        *("environments/modern/rosetta.json", "environments/modern/lib/torch.so", "environments/modern.log"),
        *("environments/modern.lock", "environments/cntk-libraries/libmpi.so", "environments/mine/notes.txt"),
        *("environments/legacy/rosetta.json", "environments/legacy-build.txt", "environments/mine.log"),
        *(".julia/prefix/bin/julia", "shared_data/environments/modern-cpu-isolated.json"),
        *("shared_data/cnn/arrays/x_train.npy", "cache/rosetta/aclImdb_v1.tar.gz", "cache/rosetta/other.txt"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"0" * 10_000)
    return tmp_path


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("reports", {"reports/summary.html", "reports/records/quick/cpu-fp32/r/base/cnn.json"}),
        (
            "environments",
            {
                *("environments/modern/rosetta.json", "environments/modern/lib/torch.so", "environments/modern.log"),
                *("environments/modern.lock", "environments/cntk-libraries/libmpi.so"),
                *("environments/legacy/rosetta.json", "environments/legacy-build.txt"),
                *(".julia/prefix/bin/julia", "shared_data/environments/modern-cpu-isolated.json"),
            },
        ),
        ("data", {"shared_data/cnn/arrays/x_train.npy"}),
        ("archives", {"cache/rosetta/aclImdb_v1.tar.gz"}),
    ],
)
def test_a_thing_is_removed_and_all_else_stays(made, name, gone):
    before = files(made)
    thing = cleaning.things()[name]
    assert cleaning.space(thing.paths).freed >= len(gone) * 10_000
    cleaning.remove(thing)
    assert before - files(made) == gone
    assert cleaning.space(cleaning.things()[name].paths).freed == 0


def test_what_uvs_cache_holds_too_frees_nothing(made):
    """uv links the files of an environment to its cache, so their space comes back only with the cache."""
    (made / "cache" / "torch.so").hardlink_to(made / "environments" / "modern" / "lib" / "torch.so")
    space = cleaning.space(cleaning.things()["environments"].paths)
    assert space.shared >= 10_000
    assert space.freed >= 8 * 10_000
    (made / "cache" / "torch.so").unlink()
    assert cleaning.space(cleaning.things()["environments"].paths).shared == 0


def test_a_link_is_removed_and_not_what_it_points_to(made):
    (made / "reports" / "results").symlink_to(made / "environments")
    cleaning.remove(cleaning.things()["reports"])
    assert (made / "environments" / "mine" / "notes.txt").exists()


def test_without_a_name_everything_is_listed_and_stays(made):
    before = files(made)
    done = rosetta("clean", workdir=made)
    assert done.returncode == 0
    for name in ("reports", "environments", "data", "archives"):
        assert f"`rosetta clean {name}` removes" in done.stdout
    assert "measured records" in done.stdout
    assert files(made) == before


def test_removing_measured_records_is_said_and_their_history_stays(made):
    done = rosetta("clean", "reports", workdir=made)
    assert done.returncode == 0
    assert "removed the pages, the logs and the measured records" in done.stdout
    assert "reports/history.jsonl, which keeps every record ever written, stays" in done.stdout
    assert {path.name for path in (made / "reports").iterdir()} == {"history.jsonl", ".run.lock"}


def test_nothing_is_removed_under_a_running_pipeline(made):
    before = files(made) | {"reports/.run.lock", "reports/.page.lock"}
    with bench.working_alone(Console()), bench.page_lock():
        for name in ("reports", "environments", "data"):
            done = rosetta("clean", name, workdir=made)
            assert done.returncode == 1
            assert done.stderr == f"rosetta: {name}: a run works here; end it first\n"
        assert rosetta("clean", workdir=made).returncode == 0
        assert before - files(made) <= {"reports/.page.lock"}
        cleaning.remove(cleaning.things()["reports"])
        assert (made / "reports/.run.lock").exists()
        assert (made / "reports/.page.lock").exists()
