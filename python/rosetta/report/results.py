"""Results: one row a leg, every number taken from the raw samples of its rounds.

Only rounds that ended `ok` are measured from. What was not measured stays NaN, and the reason stands in the same row.
"""

import math
from dataclasses import dataclass

import pandas as pd

from .. import records
from ..records import calls, good_rounds, planned_seconds
from ..tasks import TASKS
from . import shortened, statistics

COLUMNS = (
    ["leg", "language", "framework", "task", "status", "reason", "proof", "device", "precision", "profile", "data"]
    + ["seconds_median", "seconds_low", "seconds_high", "samples_per_second", "first_step_seconds"]
    + ["accuracy", "peak_memory_mb"]
    + [
        "title",
        "bridge",
        "computes",
        "threads",
        "rounds",
        "rounds_ok",
        "epochs",
        "samples",
        "batch",
        "full_epochs",
        "full_samples",
    ]
    + [
        "seconds_full_estimate",
        "import_seconds",
        "build_seconds",
        "data_seconds",
        "warm_up_seconds",
        "evaluation_seconds",
    ]
    + [
        "outer_seconds",
        "final_loss",
        "utilisation",
        "cores_used",
        "energy_joules",
        "other_load_percent",
        "data_statement",
        "versions",
        "warnings",
    ]
    + ["date", "commit", "dirty", "config_sha256", "lock_sha256"]
    + ["steps_planned", "steps_timed", "shortened"]
)
"""The columns of results.csv; docs/report.md explains each of them."""

LANGUAGES = {"python": "Python", "julia": "Julia", "r": "R"}


def table(legs: list[dict]) -> pd.DataFrame:
    """One row a leg, in the order given, with COLUMNS.

    Seconds are those of the profile's job: its epochs times the median epoch, with the bounds of a 95 % interval. Where a time
    budget cut the calls of train short, an epoch's seconds are calculated from those of its steps.
    """
    return pd.DataFrame([row(leg) for leg in legs], columns=COLUMNS)


def row(leg: dict) -> dict:
    rounds = good_rounds(leg)
    run = typical_run(leg)
    work = run["work"]
    epochs = work["epochs"]
    samples = epoch_seconds(leg)
    low, high = statistics.interval(samples)
    epoch = statistics.median(samples)
    provenance = run["provenance"]
    return {
        **{name: leg[name] for name in ("leg", "language", "framework", "task", "status", "reason")},
        **{name: leg[name] for name in ("device", "precision", "profile", "title")},
        "proof": proof(leg),
        "data": run["data"]["source"],
        "seconds_median": epochs * epoch,
        "seconds_low": epochs * low,
        "seconds_high": epochs * high,
        "samples_per_second": whole_batches(work) / epoch if epoch > 0 else math.nan,
        "first_step_seconds": over_rounds(rounds, "first_step"),
        "accuracy": math.nan if shortened.why(leg) else accuracy(rounds),
        "peak_memory_mb": max(known(run["peak_memory_mb"] for run in rounds), default=math.nan),
        "bridge": run["bridge"],
        "computes": run.get("computes", ""),
        "threads": run["threads"],
        "rounds": len(leg["rounds"]),
        "rounds_ok": len(rounds),
        **{name: work[name] for name in ("epochs", "samples", "batch", "full_epochs", "full_samples")},
        "seconds_full_estimate": math.nan if is_full(work) else full_estimate(work, epoch),
        "import_seconds": over_rounds(rounds, "import"),
        "build_seconds": over_rounds(rounds, "build"),
        "data_seconds": over_rounds(rounds, "data"),
        "warm_up_seconds": over_rounds(rounds, "warm_up"),
        "evaluation_seconds": over_rounds(rounds, "evaluation"),
        "outer_seconds": middle(run["outer_seconds"] for run in rounds),
        "final_loss": math.nan if shortened.training(leg) else final_loss(rounds),
        "utilisation": utilisation(leg),
        "cores_used": cores_used(rounds),
        "energy_joules": middle(run.get("energy_joules") for run in rounds),
        "other_load_percent": max(known(run.get("other_load_percent") for run in leg["rounds"]), default=math.nan),
        "data_statement": run["data"]["statement"],
        "versions": "; ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "warnings": "; ".join(leg["warnings"]),
        "date": provenance["date"],
        "commit": provenance["commit"],
        "dirty": bool(provenance["dirty"]),
        "config_sha256": provenance["config_sha256"],
        "lock_sha256": provenance["lock_sha256"],
        "steps_planned": epochs * records.planned_steps(work),
        "steps_timed": middle(shortened.counts(leg)),
        "shortened": shortened.why(leg),
    }


def proof(leg: dict) -> str:
    """`exact` (compared and within every tolerance), `mismatch`, `variant` or `not run`."""
    record = leg["proof"]
    if "variant" in (record["status"], leg["status"]):
        return "variant"
    if record["status"] == "mismatch" or any(not difference["passed"] for difference in record["differences"]):
        return "mismatch"
    return "exact" if record["status"] == "ok" and record["differences"] else "not run"


def is_ranked(leg: dict) -> bool:
    """Only a leg that computed the same network and was timed has a place among the others."""
    return leg["status"] == "ok" and proof(leg) == "exact" and statistics.median(epoch_seconds(leg)) > 0


def runs_of(leg: dict) -> list[dict]:
    """The rounds of a leg; its proof where there is none yet, as on a page that is made during a run."""
    return leg["rounds"] or [leg["proof"]]


def typical_run(leg: dict) -> dict:
    """The run that speaks for the leg's settings: the first good round, else the first, whatever became of it."""
    return (good_rounds(leg) or runs_of(leg))[0]


def epoch_seconds(leg: dict) -> list[list[float]]:
    """Seconds of a whole epoch by each timed call, grouped by round. All statistics are made of these."""
    return [planned_seconds(run) for run in good_rounds(leg)]


def raw_calls(run: dict) -> list[dict]:
    """Each timed call as it was measured: its seconds and its steps."""
    return [{"seconds": call["seconds"], "steps": records.steps(call, run["work"])} for call in calls(run)]


@dataclass
class Share:
    """One phase of a process: `part` is its share of the time from outside."""

    name: str
    seconds: float
    part: float


SHARES = {
    "import": "import",
    "build": "build",
    "data": "data",
    "first_step": "first step",
    "warm_up": "warm-up",
    "epoch": "epochs",
    "evaluation": "evaluation",
}


def shares(run: dict) -> list[Share]:
    """Where a process's time went, in the order of its phases, the rest last; empty for one that was not timed."""
    outer = run["outer_seconds"]
    found = [(title, sum(phase_seconds(run, name))) for name, title in SHARES.items()]
    timed = sum(seconds for _, seconds in found)
    if not timed or outer < timed:
        return []
    return [Share(title, seconds, seconds / outer) for title, seconds in (*found, ("everything else", outer - timed))]


def phase_seconds(run: dict, name: str) -> list[float]:
    return [phase["seconds"] for phase in run["phases"] if phase["phase"] == name]


def over_rounds(rounds: list[dict], name: str) -> float:
    """The median over rounds of the seconds that a phase took in all."""
    sums = [sum(seconds) for seconds in (phase_seconds(run, name) for run in rounds) if seconds]
    return statistics.median([sums])


def accuracy(rounds: list[dict]) -> float:
    return middle(phase["accuracy"] for run in rounds for phase in run["phases"] if "accuracy" in phase)


def final_loss(rounds: list[dict]) -> float:
    """The mean training loss of the last epoch, the median over rounds."""
    means = []
    for run in rounds:
        curves = [phase["losses"] for phase in run["phases"] if phase.get("losses")]
        if curves and None not in curves[-1]:
            means.append(sum(curves[-1]) / len(curves[-1]))
    return statistics.median([means])


def utilisation(leg: dict) -> float:
    """The share of its ceiling that a leg's median epoch reaches. That of a record is of its fastest call, by which it is judged."""
    rounds = good_rounds(leg)
    # What the arithmetic of an epoch would take at the speed of the ceiling.
    kernels = middle(run["utilisation"] * min(planned_seconds(run)) for run in rounds if run["utilisation"] is not None)
    epoch = statistics.median(epoch_seconds(leg))
    return kernels / epoch if epoch > 0 else math.nan


OLD_CEILINGS = {"cpu": "a matrix product in NumPy", "cuda": "cores and highest clock"}
"""How the ceilings of a device came about before records said it."""


def ceiling(run: dict) -> str:
    """What a run's utilisation is a share of; empty where it has none."""
    return "" if run["utilisation"] is None else run.get("ceiling") or OLD_CEILINGS.get(run["device"], "")


def ceilings(legs: list[dict]) -> list[str]:
    """What the utilisation of these legs is a share of, each once."""
    return list(dict.fromkeys(filter(None, (ceiling(run) for leg in legs for run in good_rounds(leg)))))


def cores_used(rounds: list[dict]) -> float:
    """Processor seconds of all threads for each second of a call, the median over all calls: 1 where a single thread worked."""
    return middle(
        phase["processor_seconds"] / phase["seconds"]
        for run in rounds
        for phase in calls(run)
        if "processor_seconds" in phase and phase["seconds"] > 0
    )


def known(values) -> list[float]:
    return [value for value in values if value is not None]


def middle(values) -> float:
    return statistics.median([known(values)])


def whole_batches(work: dict) -> int:
    """Samples that an epoch really passes over: training takes whole batches only."""
    return work["samples"] // work["batch"] * work["batch"]


def is_full(work: dict) -> bool:
    """Whether this was the whole job of 2018 rather than a part of it."""
    return all(work[name] == work[f"full_{name}"] for name in ("batch", "samples", "epochs", "test_samples"))


def full_estimate(work: dict, epoch: float) -> float:
    """Seconds that the full job would take if every sample took as long as here: an extrapolation, never a measurement."""
    full = work["full_samples"] // work["batch"] * work["batch"] * work["full_epochs"]
    return epoch * full / whole_batches(work) if whole_batches(work) else math.nan


def has_data(run: dict) -> bool:
    """Whether arrays were prepared for the run; a leg that cannot run may have none."""
    return run["data"]["source"] not in ("", "none")


def is_synthetic(leg: dict) -> bool:
    return typical_run(leg)["data"]["source"].startswith("synthetic")


def order_of(leg: dict) -> tuple:
    """The reading order of legs: task, language and framework, then the settings; the unknown comes last."""
    tasks, languages = list(TASKS), list(LANGUAGES)
    return (
        tasks.index(leg["task"]) if leg["task"] in tasks else len(tasks),
        leg["task"],
        languages.index(leg["language"]) if leg["language"] in languages else len(languages),
        leg["language"],
        leg["framework"],
        leg["profile"],
        leg["device"],
        leg["precision"],
    )
