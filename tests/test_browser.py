"""The report and the stone in Debian's Chromium: what a reader clicks, at three widths and in the dark. Screenshots stay in reports/screenshots."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import sample_records
from conftest import required
from rosetta import debian, report
from rosetta.config import ROOT

BROWSE = Path(__file__).with_name("browse.py")
VIEWS = [f"{page} {view}" for page in ("summary", "stone") for view in ("light 1280", "dark 1280", "light 400")]


def excuse(reason: str) -> None:
    """Skips, but where ROSETTA_REQUIRE names the browser."""
    assert not required("browser"), reason
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browse(environment, tmp_path_factory):
    """Gives what tests/browse.py saw on pages made from sample records and the real legs' files."""
    folder = tmp_path_factory.mktemp("browser")
    if shutil.which("chromium") is None:
        with open(folder / "log", "w") as log:
            if reason := debian.install(("chromium",), log, "there is no chromium on PATH"):
                excuse(reason)
    found = environment("browser")
    if found["status"] != "ready":
        excuse(found["reason"])
    # A name with a digit in it, figures of 2018 in another order than today's, and a leg that a time budget cut short.
    legs = [*sample_records.mixed(), sample_records.good("python/caffe2/cnn")]
    legs = [sample_records.shortened(leg, steps=2) if leg["leg"] == "julia/base/cnn" else leg for leg in legs]
    report.write(legs, folder)
    report.write_stone(folder)
    pages = [str(folder / "summary.html"), str(folder / "rosetta.html")]
    command = [found["python"], str(BROWSE), shutil.which("chromium"), *pages, str(ROOT / "reports" / "screenshots")]

    def look(extent: str) -> dict:
        done = subprocess.run([*command, extent], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return look


@pytest.fixture(scope="module")
def seen(browse) -> dict:
    """Both pages in every view."""
    return browse("all")


def test_a_reader_opens_a_leg_and_its_code_from_the_report(browse):
    seen = browse("quick")
    first = seen["summary light 1280"]
    assert seen["errors"] == []
    assert first["wide"] <= 0
    assert (first["closed"], first["opened"]) == (False, True)
    assert "import torch" in first["code"]


def test_nothing_fails_and_nothing_is_fetched(seen):
    assert seen["errors"] == []


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(seen, view):
    assert seen[view]["axe"] == []


@pytest.mark.parametrize("view", VIEWS)
def test_pages_are_never_wider_than_the_window(seen, view):
    assert seen[view]["wide"] <= 0


@pytest.mark.parametrize("page", ["summary", "stone"])
def test_dark_is_dark(seen, page):
    def brightness(view):
        return sum(map(int, seen[view]["paper"].strip("rgb()").split(",")[:3]))

    assert brightness(f"{page} dark 1280") < 150 < 600 < brightness(f"{page} light 1280")


def test_tables_sort_by_mouse_and_keyboard(seen):
    """The order at first is by time, so each of these columns has to change it."""
    found = seen["summary light 1280"]
    assert found["order"] == ["caffe2", "pytorch", "numpy", "base"]
    assert found["ascending framework"] == ["base", "caffe2", "numpy", "pytorch"]
    assert found["descending framework"] == ["pytorch", "numpy", "caffe2", "base"]
    assert found["ascending per second"] == found["order"][::-1]
    assert found["descending per second"] == found["order"]
    assert found["ascending K80"][:2] == ["pytorch", "caffe2"]
    assert found["descending K80"][:2] == ["caffe2", "pytorch"], "what has no figure comes last"
    assert found["sorted"] == "ascending"


def test_tables_filter_and_say_how_many_are_left(seen):
    found = seen["summary light 1280"]
    assert 0 < found["filtered"] < len(found["order"])
    assert found["counted"].startswith(f"{found['filtered']} of ")


def test_a_click_in_the_grid_opens_the_leg(seen):
    found = seen["summary light 1280"]
    assert (found["closed"], found["opened"]) == (False, True)


def test_two_frameworks_stand_side_by_side_and_the_pair_has_an_address(seen):
    found = seen["stone light 1280"]
    assert found["hash"].endswith("/python/pytorch/julia/flux")
    assert found["swapped"].endswith("/julia/flux/python/pytorch")
    assert "torch.optim" in found["code"]
    assert "Flux.withgradient" in found["code"]


def test_a_leg_of_the_report_leads_to_its_code_beside_another_one(seen):
    found = seen["summary light 1280"]
    _, *first, _, _ = found["hash"].split("/")
    assert found["hash"].endswith("/python/pytorch")
    assert "torch.optim" in found["code"]
    assert found["in sight"]
    assert found["chosen"] == "/".join(["#cnn", *first, "julia/flux"])
    assert found["kept"] == "julia/flux", "a way to another place of the page leaves the pair as it is"


@pytest.mark.parametrize("page", ["summary", "stone"])
def test_paper_has_the_tables_and_no_controls(seen, page):
    found = seen[f"{page} printed"]
    shown, all_tables = found["tables"]
    assert shown > 0
    assert (shown == all_tables) or page == "stone", "the stone prints the pair that is shown"
    assert found["controls"] == 0
    assert found["wide"] <= 740
    assert found["bytes"] > 20_000


def test_paper_has_the_numbers_and_the_code(seen):
    summary, stone = seen["summary printed"]["text"], seen["stone printed"]["text"]
    for text in ("5.9", "Every raw sample of python/numpy/cnn", "Environment lock", "[profile quick"):
        assert text in summary, text
    for control in ("Only rows with", "Skip to the results", "Contents"):
        assert control not in summary, control
    assert "torch.optim" in stone
    assert "Swap" not in stone


@pytest.mark.parametrize("page", ["summary", "stone"])
def test_pages_can_be_read_without_a_script(seen, page):
    assert seen[f"{page} plain"]["text"] > 2_000
    assert seen[f"{page} plain"]["tables"] > 0
