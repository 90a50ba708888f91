"""Records that lie on this machine: which of them still hold, and which legs a report leaves out."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

from .. import frameworks, records
from ..frameworks import Leg
from ..measuring import step_sha256
from ..plan import Plan


def everything(plan: Plan, language: str = "") -> Plan:
    """The plan of all legs, or of all legs of a language, under the same settings."""
    legs = tuple(leg for leg in frameworks.discover() if language in ("", leg.framework.language))
    return dataclasses.replace(plan, legs=legs)


def further(plan: Plan, every: Plan) -> list[dict]:
    """The leg records of `every` that `plan` does not ask for and that still hold: made with these settings and this code."""
    asked = {leg.name for leg in plan.legs}
    found = [complete(every, leg) for leg in every.legs if leg.name not in asked]
    return [record for record in found if record]


def left_out(every: Plan, shown: Iterable[dict]) -> list[Leg]:
    """The legs of `every` that are not among the records shown."""
    names = {record["leg"] for record in shown}
    return [leg for leg in every.legs if leg.name not in names]


def complete(plan: Plan, leg: Leg) -> dict | None:
    """The record of a leg, where it is there, whole and still holds; else None."""
    record = read(plan.record(leg))
    if record is None or len(record["rounds"]) < plan.settings.rounds:
        return None
    runs = [record["proof"], *record["rounds"]]
    files = [plan.record(leg), *(plan.run_record(leg, run["round"]) for run in runs)]
    holds = is_newest(plan, leg, files) and all(same_settings(plan, leg, run) for run in runs)
    return record if holds else None


def so_far(plan: Plan, leg: Leg) -> dict | None:
    """A leg's record made of its proof and of those of its rounds that are there and still hold; None without such a proof."""
    found = []
    for number in range(plan.settings.rounds + 1):
        path = plan.run_record(leg, number)
        run = read(path)
        if run and is_newest(plan, leg, [path]) and same_settings(plan, leg, run):
            found.append(run)
        elif number == 0:
            return None
    return records.gather(found[0], found[1:])


def same_settings(plan: Plan, leg: Leg, run: dict) -> bool:
    return run["provenance"].get("step_sha256") == step_sha256(plan, leg, run["round"])


def is_newest(plan: Plan, leg: Leg, files: list[Path]) -> bool:
    """Whether no file that the leg is run from has changed since: its code, its data, its environment."""
    sources = leg.sources()
    if not plan.idle(leg):
        sources += [plan.data_marker(leg.task), plan.environment(leg.framework.environment)]
    made = min(path.stat().st_mtime for path in files if path.exists())
    return made >= max(path.stat().st_mtime for path in sources if path.exists())


def read(path: Path) -> dict | None:
    """A record; None where it is missing or cannot be read."""
    try:
        return unchanged(path, path.stat().st_mtime_ns)
    except (OSError, records.RecordError):
        return None


@functools.lru_cache(maxsize=1000)
def unchanged(path: Path, changed: int) -> dict:
    """A record as it was at that time: a page that is made again during a run reads each but once."""
    return records.read(path)
