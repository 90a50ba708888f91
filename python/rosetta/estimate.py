"""How long the jobs of a run will take: from earlier runs, else from the time budget, else plain defaults; corrected while they end."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rosetta.config import Settings
from rosetta.frameworks import Leg, discover
from rosetta.plan import Golden, Plan

JOB_SECONDS = 2.0
"""What a step costs besides its work: Snakemake's look for the next job, the start of Python, the harness's imports."""
START_SECONDS = 6.0
"""Of a round with an ordinary library: that, import, build, first step, warm-up and exit."""
PROOF_SECONDS = 10.0
JULIA_ROUND_SECONDS, JULIA_PROOF_SECONDS = 40.0, 90.0
"""What a round and a proof of Flux, Lux or Knet compile, on top."""
FEW_STEPS = 20
"""Up to so many steps, a round without a budget is over soon after its start."""
INSTANT_SECONDS = JOB_SECONDS
"""A step of a leg that cannot run: it only writes its record."""
REPORT_SECONDS = 15.0
MADE_SECONDS = 5.0
"""An environment that is there already is only checked."""
UNKNOWN_ENVIRONMENT_SECONDS = 60.0
TOOLCHAIN_SECONDS = {"julia_toolchain": 150.0, "r_toolchain": 30.0}
"""What the set-up of a language takes besides the environment's own packages."""
DATA_SECONDS = {"cnn": 15.0, "rnn": 40.0, "resnet50": 2.0}
GOLDEN_SECONDS = {"cnn": 0.03, "rnn": 0.07, "resnet50": 0.5}
"""For each sample of the golden values, in float64 and in three draws of float32."""
MB_PER_SECOND = 10.0
"""Of a download together with what is unpacked from it."""
TRUST_SECONDS = 20.0
"""The expectation counts like so many seconds of experience: the first short job does not overturn it."""
ALONE = {"round", "report"}
"""Kinds of jobs of which one runs at a time, and nothing beside it."""
HISTORY_BYTES = 50_000_000
"""Of the end of the history that is read."""


@dataclass(frozen=True)
class Job:
    """One step of the pipeline that is still to be done.

    Attributes:
        kind: environment, data, weights, golden, proof, round or report.
        name: of the environment, the task or the leg.
        number: of the round; else 0.
        seconds: that it will take; None where nobody knows.
    """

    kind: str
    name: str
    number: int = 0
    seconds: float | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.kind, self.name, self.number


@dataclass(frozen=True)
class Done:
    """A job that has ended, and the seconds it took. `counts` is False for one that did not really run."""

    job: Job
    seconds: float
    counts: bool = True


def remaining(jobs: Iterable[Job], done: Iterable[Done] = (), lanes: int = 1) -> float | None:
    """Seconds until all jobs are done, or None where one of them is unknown.

    Args:
        jobs: what is left.
        done: what has ended in this run; corrects the expectation, each kind by its own.
        lanes: how many jobs run at a time where nothing is timed.
    """
    done = [it for it in done if it.counts]
    beside, alone = [], 0.0
    for job in jobs:
        seconds = corrected(job, done)
        if seconds is None:
            return None
        if job.kind in ALONE:
            alone += seconds
        else:
            beside.append(seconds)
    return max(sum(beside) / lanes, max(beside, default=0.0)) + alone


def corrected(job: Job, done: list[Done]) -> float | None:
    """What a job will take: as long as another round of the same leg; else the expectation, by the ratio that its kind has shown."""
    same = [it.seconds for it in done if (it.job.kind, it.job.name) == (job.kind, job.name)]
    if same:
        return sum(same) / len(same)
    if job.seconds is None:
        return None
    known = [it for it in done if it.job.kind == job.kind and it.job.seconds is not None]
    real = sum(it.seconds for it in known) + TRUST_SECONDS
    expected = sum(it.job.seconds for it in known) + TRUST_SECONDS
    return job.seconds * real / expected


def about(seconds: float | None) -> str:
    """`about 14 minutes`, as exactly as anybody can know it."""
    if seconds is None:
        return "an unknown time"
    minutes = seconds / 60
    if minutes < 0.75:
        return "less than a minute"
    if minutes < 1.5:
        return "about a minute"
    if minutes < 20:
        return f"about {round(minutes)} minutes"
    if minutes < 90:
        return f"about {5 * round(minutes / 5)} minutes"
    hours = round(minutes / 30) / 2
    return f"about {hours:g} hours"


def took(seconds: float) -> str:
    """`42 s` or `13 min 5 s`."""
    seconds = round(seconds)
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


# Expectations


def proof(leg: Leg, settings: Settings, earlier: dict | None) -> float | None:
    """Seconds of a leg's proof."""
    if earlier:
        return earlier["outer_seconds"] + JOB_SECONDS
    small = settings.proof == "small"
    few = settings.work[leg.task.name]["batch"] * settings.proof_steps <= 64
    if not (small or few or not leg.task.trained):
        return None
    return PROOF_SECONDS + JULIA_PROOF_SECONDS * leg.compiles


def round_(leg: Leg, settings: Settings, earlier: dict | None) -> float | None:
    """Seconds of a round of a leg."""
    if earlier:
        return earlier["outer_seconds"] + JOB_SECONDS
    work, budget = settings.work[leg.task.name], settings.budget_seconds
    if budget:
        timed = budget + (settings.scoring_seconds or 0) * leg.task.trained
    elif work["epochs"] * work["samples"] // work["batch"] <= FEW_STEPS:
        timed = 1.0
    else:
        return None
    return START_SECONDS + timed + JULIA_ROUND_SECONDS * leg.compiles


def environment(download_mb: float, toolchain: str, made: bool) -> float:
    """Seconds of an environment's set-up. `download_mb` is 0 where its size is unknown."""
    if made:
        return MADE_SECONDS
    packages = download_mb / MB_PER_SECOND + MADE_SECONDS if download_mb else UNKNOWN_ENVIRONMENT_SECONDS
    return packages + TOOLCHAIN_SECONDS.get(toolchain, 0.0)


def data(task: str, settings: Settings, download_bytes: int) -> float:
    prepared = DATA_SECONDS[task] if settings.data != "synthetic" else JOB_SECONDS
    return prepared + download_bytes / 1e6 / MB_PER_SECOND + JOB_SECONDS


def golden(task: str, wanted: Golden) -> float:
    return GOLDEN_SECONDS[task] * wanted.batch * wanted.steps + JOB_SECONDS


# Earlier runs


def earlier(history: Path, settings: Settings) -> dict[tuple[str, str], dict]:
    """{(kind, leg): the last record that was made with the same work and settings and really ran}."""
    found = {}
    for record in read_end(history):
        if record["outer_seconds"] and is_alike(record, settings):
            found[record["kind"], record["leg"]] = record
    return found


def read_end(history: Path) -> Iterable[dict]:
    """The records at the end of the history, oldest first."""
    try:
        with open(history, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - HISTORY_BYTES))
            if size > HISTORY_BYTES:
                file.readline()  # the rest of a line
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # a process was killed while it wrote this line
    except OSError:
        return


def is_alike(record: dict, settings: Settings) -> bool:
    """Whether a record took as long as it would with these settings."""
    names = ("profile", "device", "precision")
    if any(record[name] != getattr(settings, name) for name in names):
        return False
    planned = {**settings.work[record["task"]], "warm_up": settings.warm_up}
    if any(record["work"].get(key) != value for key, value in planned.items()):
        return False
    if record["kind"] == "proof":
        return compared(record) == planned_comparisons(record["leg"], settings)
    budgets = ("budget_seconds", "scoring_seconds")
    return record["threads"] == settings.threads and all(
        record.get(name) == getattr(settings, name) for name in budgets
    )


Comparisons = dict[tuple[str, int], int]
"""{(precision, batch): the last step that is compared}; 0 where nothing is trained."""


def compared(record: dict) -> Comparisons:
    """What a proof has compared. A record without batches was compared at the timed one."""
    found = {}
    for difference in record["differences"]:
        key = difference["precision"], difference.get("batch", record["work"]["batch"])
        found[key] = max(found.get(key, 0), difference["step"])
    return found


def planned_comparisons(name: str, settings: Settings) -> Comparisons:
    """What a proof of a leg compares with these settings; nothing where there is no such leg any more."""
    planned = {}
    for leg in discover():
        if leg.name == name:
            for precision, golden in Plan(settings, (leg,)).comparisons(leg):
                key = precision, golden.batch
                planned[key] = max(planned.get(key, 0), golden.steps if leg.task.trained else 0)
    return planned
