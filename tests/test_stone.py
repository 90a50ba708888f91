"""What a reader of the stone relies on: every leg's code is there, whole, under the right part, and readable."""

import re
from collections import Counter
from pathlib import Path

import pytest
from rosetta.config import ROOT, ConfigError
from rosetta.frameworks import LANGUAGES, discover
from rosetta.report import stone, stone_sources, write_stone
from rosetta.tasks import TASKS
from test_report import Page

LIVING = [leg for leg in discover() if not leg.framework.retired]
FILES = sorted({leg.file for leg in LIVING})
TEMPLATES = Path(stone.__file__).with_name("templates")
HEADING = re.compile(rf"^# ({'|'.join(stone.PARTS)})(?: -+|:.*)?$", re.MULTILINE)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return write_stone(tmp_path_factory.mktemp("reports")).read_text()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def view():
    return stone.context()


# A leg's file and its parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_parts_of_a_leg_are_its_file(path):
    text = path.read_text()
    parts = stone.parts_of(text, path.name)
    assert "".join(parts.values()) == text
    assert set(parts) == {"Setup", *HEADING.findall(text)}
    assert {"Build", "Place", "Predict"} <= set(parts)


def test_what_stands_before_the_first_heading_is_setup():
    parts = stone.parts_of('"""A leg."""\n\nimport numpy\n\n# Setup: layouts\nA = 1\n\n# Build\nB = 2\n', "cnn.py")
    assert list(parts) == ["Setup", "Build"]
    assert parts["Setup"].startswith('"""A leg."""')
    assert parts["Build"] == "# Build\nB = 2\n"


def test_only_a_comment_at_the_margin_is_a_heading():
    text = "# Build -----\nf <- 1\n  # Load\n# Loads the rest.\n# Train the network, then stop.\n"
    assert list(stone.parts_of(text, "cnn.R")) == ["Setup", "Build"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Build\n# Evaluate\n", "cnn.py:2: `# Evaluate` is no part of a leg"),
        ("# Load\n\n# Build\n", "cnn.py:3: Build stands behind Load"),
        ("# Build\n# Build: again\n", "cnn.py:2: Build stands behind Build"),
    ],
)
def test_an_unknown_or_misplaced_part_is_an_error_of_one_line(text, message):
    with pytest.raises(ConfigError) as caught:
        stone.parts_of(text, "cnn.py")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_highlighting_changes_no_character():
    for path in FILES:
        language = {suffix: name for name, suffix in LANGUAGES.items()}[path.suffix]
        found = Page(f"<pre>{stone.highlighted(path.read_text(), language)}</pre>").all("pre")[0]["text"]
        assert found == path.read_text().strip("\n") + "\n", path


# The page


def test_every_living_leg_is_there_with_its_parts_and_a_word_for_the_others(view):
    cells = {leg.name: source.cells for sources in view["tasks"].values() for source in sources for leg in source.legs}
    assert set(cells) == {leg.name for leg in LIVING}
    for leg in LIVING:
        text = leg.file.read_text()
        assert [cell.part for cell in cells[leg.name]] == list(stone.PARTS)
        there = {cell.part for cell in cells[leg.name] if not cell.absent}
        assert there == {"Setup", *HEADING.findall(text)}, leg.name
        reasons = {cell.part: cell.absent for cell in cells[leg.name] if cell.absent}
        assert "not in this file" not in reasons.values(), (leg.name, reasons)


def test_the_page_holds_the_code_of_every_leg_once(page):
    text = page.all("body")[0]["text"]
    for leg in LIVING:
        for part in stone.parts_of(leg.file.read_text(), leg.name).values():
            assert part.strip("\n") in text, leg.name
    files = Counter(element["data-file"] for element in page.elements if "data-file" in element)
    assert set(files.values()) == {1}
    assert {path.relative_to(ROOT).as_posix() for path in FILES} <= set(files)


def test_files_that_legs_share_are_there(view, page):
    files = {element["data-file"] for element in page.elements if "data-file" in element}
    shared = {
        path for task in view["index"]["tasks"].values() for leg in task["legs"].values() for path in leg["shared"]
    }
    assert shared <= files
    legs = view["index"]["tasks"]["cnn"]["legs"]
    assert legs["python/keras-jax"]["shared"] == [
        "python/frameworks/keras/on_jax.py",
        "python/frameworks/keras/setup.py",
    ]
    assert "python/frameworks/mxnet/setup.py" in legs["python/mxnet-gluon"]["shared"]
    runtime = view["index"]["tasks"]["resnet50"]["legs"]["python/onnxruntime"]["shared"]
    assert {"python/frameworks/onnx/export.py", "python/frameworks/pytorch/resnet50.py"} <= set(runtime)
    assert "python/frameworks/pytorch/cnn.py" not in runtime


def test_every_framework_s_mapping_is_there(page):
    rows = Counter(element["text"] for element in page.elements if "data-row" in element)
    expected = Counter(
        text for framework in {leg.framework.title: leg.framework for leg in LIVING}.values() for text in framework.mapping.values()
    )  # fmt: skip
    assert rows == expected


def test_every_row_of_a_mapping_is_shown_with_some_task():
    shown = {row for rows in stone.ROWS.values() for row in rows}
    assert set(stone.ROWS) == set(TASKS)
    assert {row for leg in LIVING for row in leg.framework.mapping} <= shown


def test_frameworks_are_described_and_the_retired_ones_too(page):
    text = page.all("body")[0]["text"]
    for leg in discover():
        assert leg.framework.title in text
        assert leg.framework.summary in text
        assert leg.framework.retired in text
        assert leg.framework.variant.rstrip(".") in text
        assert leg.framework.as_shipped.get(leg.task.name, "").rstrip(".")[1:] in text


def test_the_page_is_whole_and_loads_nothing(html, page):
    assert len(html) < 5_000_000
    assert not page.all("link", "img", "iframe", "object")
    assert not [element for element in page.elements if "src" in element]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", html)
    homes = {leg.framework.homepage for leg in discover()}
    links = {element["href"] for element in page.all("a")}
    assert {link for link in links if not link.startswith("#")} == homes | {"summary.html"}
    ids = [element["id"] for element in page.elements if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_controls_have_names(page):
    named = {element.get("for") for element in page.all("label")}
    assert {select["id"] for select in page.all("select")} <= named
    assert all(button.get("aria-label") for button in page.all("button"))
    assert page.all("legend")


def test_the_page_is_made_anew_when_a_leg_changes():
    assert {leg.file for leg in LIVING} <= set(stone_sources())
    assert {leg.framework.folder.with_name(leg.framework.name) / "framework.toml" for leg in discover()} <= set(
        stone_sources()
    )
    assert TEMPLATES / "stone.js" in stone_sources()


# Colours


def variables(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})", css))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_class_of_code_is_readable(page, dark):
    """WCAG AA, 4.5 to 1, on the ground of code; and marked words on theirs."""
    colours = {}
    for name in ("style.css", "stone.css"):
        light, _, rest = (TEMPLATES / name).read_text().partition("@media screen and (prefers-color-scheme: dark)")
        colours |= variables(light)
        colours |= variables(rest.partition("\n}")[0]) if dark else {}
    tones = dict(re.findall(r"\.code \.([a-z]) \{ color: var\(--([a-z]+)\)", (TEMPLATES / "stone.css").read_text()))
    used = {element["class"] for element in page.all("i")}
    assert used == set(tones)
    for tone in (*tones.values(), "ink", "muted"):
        assert contrast(colours[tone], colours["tint"]) >= 4.5, tone
    assert contrast(colours["ink"], colours["mark"]) >= 4.5
    assert contrast(colours["muted"], colours["paper"]) >= 4.5
