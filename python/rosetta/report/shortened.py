"""Legs that a time budget cut short: how much of the planned work was timed or scored, and how the page says so."""

from dataclasses import dataclass

from .. import records
from ..records import calls, good_rounds
from . import words

SIGN = "*"
"""Stands beside seconds that are calculated from a part of the steps."""


@dataclass(frozen=True)
class Part:
    """What the rounds of a leg did of a plan: `few` to `many` of `planned`."""

    few: int
    many: int
    planned: int

    def __str__(self) -> str:
        done = f"{self.few:,}" if self.few == self.many else f"{self.few:,} to {self.many:,}"
        return f"{done} of {self.planned:,}"


def counts(leg: dict) -> list[int]:
    """Steps that were timed in each good round."""
    timed = [[records.steps(call, run["work"]) for call in calls(run)] for run in good_rounds(leg)]
    return [sum(steps) for steps in timed if steps]


def training(leg: dict) -> Part | None:
    """The steps that were timed, None where they were all that the profile plans."""
    work = (good_rounds(leg) or [leg["proof"]])[0]["work"]
    return part(counts(leg), work["epochs"] * records.planned_steps(work))


def scoring(leg: dict) -> Part | None:
    """The test samples that were scored, None where they were all that the profile plans."""
    work = (good_rounds(leg) or [leg["proof"]])[0]["work"]
    phases = [it for run in good_rounds(leg) for it in run["phases"] if it["phase"] == "evaluation"]
    return part([it.get("samples", work["test_samples"]) for it in phases], work["test_samples"])


def part(done: list[int], planned: int) -> Part | None:
    return Part(min(done), max(done), planned) if done and min(done) < planned else None


def within(legs: list[dict], setting: str) -> str:
    """`, within budget_seconds=5`, as the records say; empty where none does."""
    values = dict.fromkeys(run.get(setting) for leg in legs for run in good_rounds(leg))
    given = [f"{value:g}" for value in values if value is not None]
    return f", within {setting}={words.listed(given)}" if given else ""


def why(leg: dict) -> str:
    """The column `shortened`: what was cut short and by which budget; empty where nothing was."""
    texts = []
    if steps := training(leg):
        texts.append(f"timed on {steps} steps{within([leg], 'budget_seconds')}")
    if samples := scoring(leg):
        texts.append(f"scored on {samples} test samples{within([leg], 'scoring_seconds')}")
    return "; ".join(texts)


def without_accuracy(leg: dict) -> str:
    """Why a leg that was scored has no accuracy; empty where no budget is the reason."""
    return f"no accuracy: {why(leg)}" if why(leg) else ""


def cut(legs: list[dict]) -> list[dict]:
    """Those whose seconds carry the sign."""
    return [leg for leg in legs if training(leg)]


def sentence(legs: list[dict]) -> str:
    """Under a table of legs of one task: what the sign means, and each leg that has it; which legs lack an accuracy. May be empty."""
    texts = []
    if cut(legs):
        each = ", ".join(f"{name(leg)} from {training(leg)} steps" for leg in cut(legs))
        texts.append(
            f"{SIGN} The time is calculated from a part of the steps{within(cut(legs), 'budget_seconds')}: {each}."
        )
        if words.is_trained(legs[0]["task"]):
            texts.append("Such legs have no accuracy.")
    texts += [f"{name(leg)} has no accuracy: {why(leg)}." for leg in legs if why(leg) and not training(leg)]
    return " ".join(texts)


def name(leg: dict) -> str:
    return f"{leg['language']}/{leg['framework']}"


def summary(legs: list[dict]) -> str:
    """The same under a table of legs of several tasks: each task with the fewest and the most steps."""
    if not cut(legs):
        return ""
    tasks = {}
    for leg in cut(legs):
        steps = training(leg)
        few, many = tasks.get((leg["task"], steps.planned), (steps.few, steps.many))
        tasks[leg["task"], steps.planned] = min(few, steps.few), max(many, steps.many)
    each = ", ".join(
        f"{words.task_title(task)} from {Part(*ends, planned)} steps" for (task, planned), ends in tasks.items()
    )
    return f"{SIGN} The time is calculated from a part of the steps{within(cut(legs), 'budget_seconds')}: {each}."


def every_call(task: str, legs: list[dict]) -> str:
    """What a chart of raw samples shows: `Every epoch measured`, or the calls that were timed in its place."""
    unit = "epoch" if words.is_trained(task) else "pass"
    return f"Every timed call, as seconds of one {unit}" if cut(legs) else f"Every {unit} measured"
