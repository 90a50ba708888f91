"""The report: what the leg records say, as tables for machines and a page for people.

`write` is the only entry point. What it needs (pandas, matplotlib, jinja2) is slow to import, so it is imported when it is called.
"""

from pathlib import Path


def write(legs: list[dict], folder: Path) -> list[Path]:
    """Writes results.csv, results.parquet, summary.md and summary.html into `folder`, each in one step.

    Args:
        legs: leg records (schema "leg"), of any status; one leg may come once per profile, device and precision.

    Returns:
        The paths of the files written.

    Raises:
        records.RecordError: there is no leg, or the same leg comes twice.
    """
    from . import page

    return page.write(legs, Path(folder))
