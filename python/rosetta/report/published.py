"""The published figures of 2018 beside today's legs of the same framework: shown, marked, never ranked with them."""

from dataclasses import dataclass

from .. import frameworks, published
from . import results


@dataclass
class Line:
    """One framework of 2018: what it reached then, and its leg of today, where there is one.

    Attributes:
        then: {device: (seconds of the published job, samples per second)}.
        source: repository@commit:file#line.
        today: (leg, row of results.csv) or None.
    """

    name: str
    then: dict[str, tuple[float, float]]
    source: str
    today: tuple[dict, dict] | None


def lines(task: str, details: list[tuple[dict, dict]]) -> list[Line]:
    """The table of a task; `details` are all legs of the report with their rows."""
    partners = {
        leg.framework.published: (leg.framework.language, leg.framework.name)
        for leg in frameworks.discover()
        if leg.framework.published
    }
    today = {(leg["language"], leg["framework"]): (leg, row) for leg, row in details if leg["task"] == task}
    found = []
    for name, figures in published.every(task).items() if task in published.TASKS else ():
        then = {
            device: (figure.seconds, published.SAMPLES[task] / figure.seconds) for device, figure in figures.items()
        }
        source = next(iter(figures.values())).source
        found.append(Line(name.strip("/").replace("/", ", "), then, source, today.get(partners.get(name))))
    return found


def devices(found: list[Line]) -> list[str]:
    return list(dict.fromkeys(device for line in found for device in line.then))


def job(task: str) -> str:
    """The published job in words."""
    return next(figure.work for figures in published.every(task).values() for figure in figures.values())


def has_rate(line: Line) -> bool:
    """Whether today's leg was timed and proven."""
    return line.today is not None and results.is_ranked(line.today[0])
