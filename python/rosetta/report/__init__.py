"""The report: what the leg records say, as tables for machines and a page for people; and the stone, which needs no records.

`write`, `write_stone` and `stone_sources` are the entry points. What the first two need (pandas, matplotlib, jinja2) is slow to import, so it
is imported when they are called.
"""

from pathlib import Path

from ..config import ROOT
from ..frameworks import LANGUAGES


def write(legs: list[dict], folder: Path) -> list[Path]:
    """Writes results.csv, results.json, results.parquet, summary.md and summary.html into `folder`, each in one step.

    Args:
        legs: leg records (schema "leg"), of any status; one leg may come once per profile, device and precision.

    Returns:
        The paths of the files written.

    Raises:
        records.RecordError: there is no leg, or the same leg comes twice.
    """
    from . import page

    return page.write(legs, Path(folder))


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
