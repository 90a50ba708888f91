"""The published figures of 2018 beside today's legs of the same framework: shown, marked, never ranked with them."""

from dataclasses import dataclass, field

from .. import frameworks, published
from ..published import Figure


@dataclass
class Line:
    """One framework of 2018: what it reached then on each device, and its legs of today, each in its own setting.

    Attributes:
        today: [(leg, row of results.csv)]; empty where this report has none.
    """

    task: str
    name: str
    language: str
    figures: dict[str, Figure]
    today: list[tuple[dict, dict]] = field(default_factory=list)


def lines(task: str, details: list[tuple[dict, dict]]) -> list[Line]:
    """The published table of a task, in its order; `details` are legs with their rows."""
    if task not in published.TASKS:
        return []
    languages = {f"{row['framework']}/{row['api']}": row["language"] for row in published.table()}
    names = {
        (leg.framework.language, leg.framework.name): leg.framework.published
        for leg in frameworks.discover()
        if leg.framework.published
    }
    mine = [(leg, row) for leg, row in details if leg["task"] == task]
    return [
        Line(
            task,
            name.strip("/").replace("/", ", "),
            languages[name],
            figures,
            [(leg, row) for leg, row in mine if names.get((leg["language"], leg["framework"])) == name],
        )
        for name, figures in published.every(task).items()
    ]


@dataclass
class Columns:
    """What a table of today's legs shows of the published one.

    Attributes:
        alone: frameworks without a leg in this report; rows of their own.
        notes: {what the source says about a figure: its letter}.
    """

    lines: list[Line]
    alone: list[Line]

    @property
    def devices(self) -> list[str]:
        return list(dict.fromkeys(device for line in self.lines for device in line.figures))

    @property
    def notes(self) -> dict[str, str]:
        texts = dict.fromkeys(figure.notes for figure in self.every if figure.notes)
        return dict(zip(texts, "abcdefghijklmnopqrstuvwxyz"))

    @property
    def every(self) -> list[Figure]:
        return [figure for line in self.lines for figure in line.figures.values()]

    def of(self, leg: dict) -> Line | None:
        return next((line for line in self.lines if any(it is leg for it, _ in line.today)), None)


def columns(comparison, found: list[Line], with_others: bool) -> Columns | None:
    """The columns for a table, None where no figure belongs to it; `with_others`: the frameworks without a leg join it."""
    mine = [line for line in found if line.task == comparison.task]
    beside = [line for line in mine if any(it is row.leg for it, _ in line.today for row in comparison.rows)]
    alone = [line for line in mine if not line.today] if with_others else []
    return Columns(beside + alone, alone) if beside or alone else None


def rate(figure: Figure, task: str) -> float:
    """Samples per second: those of the published job by its seconds."""
    return published.SAMPLES[task] / figure.seconds


def short(device: str) -> str:
    """`K80` for `Tesla K80`, `P100` for `Tesla P100-PCIE-16GB`."""
    return device.removeprefix("Tesla ").partition("-")[0]


def in_json(line: Line) -> dict:
    """A line for machines: every figure as published, and each leg of today with its setting."""
    setting = ("leg", "profile", "device", "precision", "status")
    return {
        "task": line.task,
        "framework": line.name,
        "language": line.language,
        "published": [
            {**vars(figure), "samples_per_second": rate(figure, line.task)} for figure in line.figures.values()
        ],
        "today": [
            {**{name: leg[name] for name in setting}, "samples_per_second": row["samples_per_second"]}
            for leg, row in line.today
        ],
    }
