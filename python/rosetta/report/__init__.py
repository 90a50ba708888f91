"""The report: what the leg records say, as tables for machines and a page for people; and the stone, which needs no records.

`write`, `write_stone` and `stone_sources` are the entry points. What the first two need (pandas, matplotlib, jinja2) is slow to import, so it
is imported when they are called.
"""

from collections.abc import Sequence
from pathlib import Path

from ..config import ROOT
from ..frameworks import LANGUAGES, Leg
from .progress import Progress


def write(
    legs: list[dict],
    folder: Path,
    left_out: Sequence[Leg] = (),
    settings: Sequence[str] = (),
) -> list[Path]:
    """Writes results.csv, results.json, results.parquet, summary.md and summary.html into `folder`, each in one step.

    Args:
        legs: leg records (schema "leg"), of any status; one leg may come once per profile, device and precision.
        left_out: legs that the report does not have; it says how many, and which command adds them.
        settings: KEY=VALUE words of the run that makes the report, which that command repeats.

    Returns:
        The paths of the files written.

    Raises:
        records.RecordError: there is no leg, or the same leg comes twice.
    """
    from . import page

    return page.write(legs, Path(folder), left_out, settings)


def write_running(
    progress: Progress,
    legs: list[dict],
    folder: Path,
    left_out: Sequence[Leg] = (),
    settings: Sequence[str] = (),
) -> Path:
    """Writes the page of a run that goes on: summary.html alone, in one step.

    The file is dated 1970, so that Snakemake takes it for older than every record and makes the final page in any case. What did not
    change since the last call in this process, such as the charts of a leg, is not drawn again.

    Args:
        legs: leg records of what is there so far; `watching.Watch.records` makes those of the run. None of them may come twice.
        settings: see `write`.
    """
    from . import page

    return page.write_running(progress, legs, Path(folder), left_out, settings)


def write_stone(folder: Path) -> Path:
    """Writes rosetta.html into `folder`, in one step: any two legs of a task side by side, from their own files.

    Returns:
        The path of the file.

    Raises:
        ConfigError: a leg's file whose parts are not those of the others, see `stone.parts_of`.
    """
    from . import page

    return page.write_stone(Path(folder))


def page_sources() -> list[Path]:
    """Every file besides the records that the report is made of."""
    here = Path(__file__).parent
    own = [path for path in here.rglob("*") if path.suffix in (".py", ".j2", ".css", ".js")]
    return sorted({*stone_sources(), *own, here.with_name("published_results.csv")})


def stone_sources() -> list[Path]:
    """Every file that rosetta.html is made of: a newer one calls for a new page."""
    folders = [folder for language in LANGUAGES for folder in (ROOT / language / "frameworks").iterdir()]
    legs = [path for folder in folders for path in folder.glob("*") if path.suffix in {*LANGUAGES.values(), ".toml"}]
    here = Path(__file__).parent
    return sorted([*legs, here / "stone.py", *here.glob("templates/st*")])
