"""Records that lie on this machine: which of them still hold, and which legs a report leaves out."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from .. import environments, frameworks, records
from ..frameworks import Leg
from ..measuring import outdated
from ..plan import Plan
from ..prepare import HARNESS


def everything(plan: Plan, language: str = "") -> Plan:
    """The plan of all legs, or of all legs of a language, under the same settings."""
    legs = tuple(leg for leg in frameworks.discover() if language in ("", leg.framework.language))
    return dataclasses.replace(plan, legs=legs)


def further(plan: Plan, every: Plan) -> list[dict]:
    """The leg records of `every` that `plan` does not ask for and that still hold."""
    asked = {leg.name for leg in plan.legs}
    return holding(every, [leg for leg in every.legs if leg.name not in asked])


def left_out(every: Plan, shown: Iterable[dict]) -> list[Leg]:
    """The legs of `every` that are not among the records shown."""
    names = {record["leg"] for record in shown}
    return [leg for leg in every.legs if leg.name not in names]


def holding(plan: Plan, legs: Iterable[Leg]) -> list[dict]:
    """The records of these legs that are there, whole, and still hold: the pipeline would make nothing of them again."""
    stands = functools.cache(lambda name: environment_stands(plan, name))  # it may start R or Julia
    found = [(leg, read(plan.record(leg))) for leg in legs]
    return [record for leg, record in found if record and holds(plan, leg, record, stands)]


def holds(plan: Plan, leg: Leg, record: dict, stands: Callable[[str], bool]) -> bool:
    if len(record["rounds"]) < plan.settings.rounds or not is_newest(plan, leg, record):
        return False
    runs = [record["proof"], *record["rounds"]]
    return all(is_current(plan, leg, run) for run in runs) and (plan.idle(leg) or stands(leg.framework.environment))


def is_current(plan: Plan, leg: Leg, run: dict) -> bool:
    """Whether a proof or a round says what running it now would give: the same settings, the same packages."""
    provenance = run["provenance"]
    if "step_sha256" not in provenance or outdated(plan, leg, run["round"], run):
        return False
    lock = environments.lock_of(leg.framework.environment, plan.settings)
    return plan.idle(leg) or provenance["lock_sha256"] == lock


def environment_stands(plan: Plan, name: str) -> bool:
    """Whether the pipeline would leave an environment as it is. One that was removed says nothing against a record."""
    marker = plan.environment(name)
    if not marker.exists():
        return True
    return environments.generation(name, plan.settings, marker) == json.loads(marker.read_text())["generation"]


def is_newest(plan: Plan, leg: Leg, record: dict) -> bool:
    """Whether nothing that the leg's proof and rounds read has changed since: the inputs of their rules in the Snakefile."""
    needs = leg.sources()
    if not plan.idle(leg):
        needs += [plan.data_marker(leg.task), plan.weights(leg.task) / "manifest.json"]
        needs.append(plan.environment(leg.framework.environment))
    needs_of_proof = [*needs, HARNESS / "tasks.py", *(golden.path for golden in plan.goldens(leg.task))]
    gathered, rounds = plan.record(leg), [plan.round(leg, run["round"]) for run in record["rounds"]]
    return newer([gathered, *rounds], needs) and newer([gathered, plan.proof(leg)], needs_of_proof)


def newer(files: list[Path], sources: list[Path]) -> bool:
    """Whether none of the files is older than any of the sources, of those that are there."""
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
