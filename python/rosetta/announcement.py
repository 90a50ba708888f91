"""What is said before a run starts: how much there is to do, how long it takes, what it downloads, what cannot run here, what is made again and why.

Snakemake calls it when it knows what has to be done. A `rosetta bench` that started the run gets it as an event; else it goes to standard error.
"""

import ast
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rosetta import diagnosis, environments, estimate, events, machine
from rosetta.config import ROOT, Settings
from rosetta.estimate import Job, about
from rosetta.frameworks import Leg, discover, unreachable
from rosetta.plan import HISTORY, REPORTS, SHARED, Plan
from rosetta.report.words import listed, plural
from rosetta.tasks import TASKS

DATA_DISK_MB = {"cnn": 740, "rnn": 60, "resnet50": 0}
"""What the prepared arrays take, beside their archives."""


@dataclass(frozen=True)
class Obstacle:
    """Why a leg cannot run here, and the command that changes it; an empty one where none does."""

    leg: str
    reason: str
    remedy: str = ""


@dataclass
class Announcement:
    """Everything that is said before a run.

    Attributes:
        jobs: what will be done, with seconds.
        lanes: how many jobs run at a time where nothing is timed.
        idle: legs of which only a record with the reason is written.
        again: {why: proofs and rounds whose records have to be made again}.
        environments, data: names of what has to be installed and downloaded; `unsized` are environments whose size is unknown.
        gpu: an NVIDIA GPU that is here and not used; else empty.
    """

    settings: Settings
    jobs: list[Job]
    lanes: int = 1
    idle: set[str] = field(default_factory=set)
    again: dict[str, list[Job]] = field(default_factory=dict)
    environments: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    unsized: list[str] = field(default_factory=list)
    download_mb: float = 0.0
    disk_mb: float = 0.0
    obstacles: list[Obstacle] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)
    gpu: str = ""


def announce(workflow, plan: Plan) -> None:
    """Tells what the jobs that Snakemake is about to run mean. An error here does not stop the run.

    Args:
        workflow: Snakemake's, with its graph of jobs built.
    """
    try:
        known = files(replace(plan, legs=discover()))
        needed = [(key, workflow.dag.reason(job)) for job in workflow.dag.needrun_jobs() if (key := key_of(job, known))]
        found = gather(plan, needed, workflow.cores or 1)
        text = lines(found)
    except Exception as error:
        print(f"rosetta: what will be done could not be told: {error!r}", file=sys.stderr)
        return
    if events.are_heard():
        jobs = [[job.kind, job.name, job.number, job.seconds] for job in found.jobs]
        events.send("plan", lines=text, jobs=jobs, lanes=found.lanes, idle=sorted(found.idle))
    else:
        print("\n".join(text), file=sys.stderr, flush=True)


def files(every: Plan) -> dict[str, tuple[str, str, int]]:
    """{file that the pipeline makes: kind, name and number of the job that makes it}."""
    known = {str(REPORTS / "summary.html"): ("report", str(REPORTS), 0)}
    for leg in every.legs:
        known[str(every.proof(leg))] = ("proof", leg.name, 0)
        for number in range(1, every.settings.rounds + 1):
            known[str(every.round(leg, number))] = ("round", leg.name, number)
    for name in {leg.framework.environment for leg in every.legs}:
        known[str(every.environment(name))] = ("environment", name, 0)
    for task in TASKS.values():
        known[str(every.data_marker(task))] = ("data", task.name, 0)
        known[str(every.weights(task) / "manifest.json")] = ("weights", task.name, 0)
        for number, golden in enumerate(every.goldens(task)):
            known[str(golden.path)] = ("golden", task.name, number)
    return known


def key_of(job, known: dict) -> tuple[str, str, int] | None:
    return next((known[str(path)] for path in job.output if str(path) in known), None)


def gather(plan: Plan, needed: list[tuple[tuple[str, str, int], object]], cores: int) -> Announcement:
    """Collects the facts. Looks at the machine; changes nothing.

    Args:
        needed: (kind, name, number) of each job and Snakemake's reason for it.
    """
    settings, legs = plan.settings, {leg.name: leg for leg in discover()}
    made = {name: diagnosis.environment(plan, name) for name in plan.environments()}
    states = {leg.name: state(plan, leg, made.get(leg.framework.environment, {})) for leg in plan.legs}
    found = Announcement(settings, [], lanes=min(2, cores) if settings.device == "cpu" else 1)
    for name, obstacle in states.items():
        if obstacle and not plan.idle(legs[name]):
            found.obstacles.append(obstacle)
        elif obstacle:
            kind = "retired" if legs[name].framework.retired else f"without {settings.device} in {settings.precision}"
            found.excluded.setdefault(kind, []).append(name)
    found.idle = {name for name, obstacle in states.items() if obstacle}
    past = estimate.earlier(HISTORY, settings)
    for (kind, name, number), reason in needed:
        if kind in ("proof", "round"):
            seconds = job_seconds(kind, legs[name], settings, past, name in found.idle)
        elif kind == "environment":
            seconds = environment(found, name)
        elif kind == "data":
            seconds = archive(found, plan, name)
        elif kind == "golden":
            seconds = estimate.golden(name, plan.goldens(TASKS[name])[number])
        else:
            seconds = estimate.REPORT_SECONDS if kind == "report" else estimate.JOB_SECONDS
        job = Job(kind, name, number, seconds)
        found.jobs.append(job)
        if kind in ("proof", "round") and name not in found.idle and (cause := why(reason)):
            found.again.setdefault(cause, []).append(job)
    if settings.device == "cpu":
        found.gpu = next((gpu["name"] for gpu in machine.gpus()), "")
    return found


def job_seconds(kind: str, leg: Leg, settings: Settings, past: dict, idle: bool) -> float | None:
    if idle:
        return estimate.INSTANT_SECONDS
    of = estimate.proof if kind == "proof" else estimate.round_
    return of(leg, settings, past.get((kind, leg.name)))


def environment(found: Announcement, name: str) -> float:
    """Seconds of an environment's set-up; adds what it downloads."""
    needs, settings = environments.needs(name), found.settings
    # On a GPU other, larger packages come; the sizes are those for a CPU.
    sized = settings.device == "cpu"
    size, disk = (needs.download_mb, needs.disk_mb) if sized else (0, 0)
    used = {leg.framework.environment for leg in discover() if leg.name not in found.idle}
    made = settings.deployment == "current" or name not in used or is_made(name, settings)
    if not made:
        found.environments.append(name)
        found.download_mb += size
        found.disk_mb += disk
        if not size:
            found.unsized.append(name)
    return estimate.environment(size, needs.toolchain, made)


def is_made(name: str, settings: Settings) -> bool:
    """Whether the Python packages of an environment are there, from an earlier run."""
    home = environments.folder() / (name if settings.device == "cpu" else f"{name}-{settings.device}")
    try:
        return json.loads((home / "rosetta.json").read_text())["lock"] == environments.lock_sha256(
            name, settings.device
        )
    except (OSError, ValueError, KeyError):
        return False


def archive(found: Announcement, plan: Plan, name: str) -> float:
    """Seconds of a task's data; adds what is downloaded."""
    from rosetta.data import sources

    settings, task, size = plan.settings, TASKS[name], 0
    prepared = (plan.arrays(task) / "manifest.json").exists()
    if task.trained and settings.data != "synthetic" and not prepared:
        published = sources.ARCHIVES[name]
        folder = sources.user_folder(Path(settings.data_folder) if settings.data_folder else None)
        cached = (sources.pooch.os_cache("rosetta") / published.name).exists()
        found.disk_mb += DATA_DISK_MB[name]
        if not (folder or cached):
            size = published.bytes
            found.data.append(published.title)
            found.download_mb += size / 1e6
            found.disk_mb += size / 1e6
    return estimate.JOB_SECONDS if prepared else estimate.data(name, settings, size)


def state(plan: Plan, leg: Leg, made: dict) -> Obstacle | None:
    """Why a leg cannot run here, as far as that is known before anything is set up.

    Args:
        made: what is known of its environment, see `diagnosis.environment`.
    """
    settings = plan.settings
    found = diagnosis.leg_state(plan, leg, made)
    if found["state"] == "ready":
        return None
    if found["state"] != diagnosis.NOT_SET_UP:
        # In a situation that has changed, the set-up tries again.
        return None if made.get("changed") else Obstacle(leg.name, found["reason"], found["mend"])
    if unfit := environments.unfit_platform(environments.needs(leg.framework.environment).only):
        return Obstacle(leg.name, unfit)
    # The set-up installs programs where it may; whoever is not root has to do it first.
    if os.geteuid() and (reason := unreachable(leg, settings, sys.executable)):
        return Obstacle(leg.name, reason)
    return None


# Why a record has to be made again


def why(reason) -> str:
    """Why a proof or a round whose record is there has to be made again; empty for a record that was never made.

    Args:
        reason: Snakemake's, see `snakemake.jobs.Reason`.
    """
    if reason.forced:
        return "that was asked for"
    if reason.missing_output:
        return ""
    if reason.incomplete_output:
        return "they were interrupted"
    if reason.params_changed:
        return changed_settings(reason.params_changed.only_old, reason.params_changed.only_new)
    changed = sorted({changed_file(Path(path)) for path in reason.updated_input | reason.updated_input_run})
    if changed:
        return listed([text for _, text in changed])
    if reason.input_changed:
        return "files were added to the leg or the harness, or removed"
    return "the harness has changed" if reason.code_changed or reason.software_stack_changed else "their inputs changed"


def changed_settings(old: Iterable[str], new: Iterable[str]) -> str:
    """What differs between the parameters of a step, before and now, as Snakemake keeps them."""
    before, now = ([json.loads(it) for it in map(ast.literal_eval, texts) if is_list(it)] for texts in (old, new))
    if not before or not now:  # only the number of the attempt has grown, see measuring.next_attempt
        return "what stopped them has changed, or their records were made with other settings"
    before, now, own = before[0], now[0], len(Plan.nature(discover()[0]))
    if before[:own] != now[:own]:
        return "framework.toml has changed"
    if len(before) != len(now):
        return "the harness has changed"
    changes = [text for a, b in zip(before[own:], now[own:]) if a != b for text in differences(a, b)]
    return f"a setting has changed ({', '.join(changes)})"


def is_list(value) -> bool:
    return isinstance(value, str) and value.startswith("[")


def differences(a, b, name: str = "") -> list[str]:
    """`epochs 3 -> 8` for each setting that is not the same in two mappings."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            text for key in {**a, **b} if a.get(key) != b.get(key) for text in differences(a.get(key), b.get(key), key)
        ]
    old, new = ("null" if value is None else value for value in (a, b))
    return [f"{name} {old} -> {new}".lstrip()]


def changed_file(path: Path) -> tuple[int, str]:
    """(order, what it means that an input is newer than the record)."""
    if path.parts[:2] == (SHARED.name, "environments"):
        return 2, f"the environment {path.name.split('-')[0]} is a new one"
    if path.parts[0] == SHARED.name and "golden" in path.parts:
        return 3, "the golden values are new"
    if path.parts[0] == SHARED.name:
        return 3, "the shared data are new"
    if path.is_absolute() and path.is_relative_to(ROOT) and "frameworks" in path.relative_to(ROOT).parts[:2]:
        return 0, "files of the leg have changed"
    return 1, "the harness has changed"


# Words


def lines(found: Announcement) -> list[str]:
    """The announcement in a few plain lines."""
    text = [amount(found)]
    for cause, jobs in found.again.items():
        text.append(f"Made again: {counted(jobs)} ({about(left(found, jobs))}), because {cause}.")
    if found.environments or found.data:
        text.append(download(found))
    text += [f"Cannot run here: {it}" for it in grouped(found.obstacles)]
    for kind, names in found.excluded.items():
        text.append(f"Not run, {kind}: {', '.join(shortened(names))}")
    if found.gpu:
        others = [word for word in found.settings.overrides if not word.startswith("device=")]
        words = " ".join([*others, "device=cuda"])
        text.append(f'{found.gpu} is here, but device is cpu. To use it: make report CONFIG="{words}"')
    return text


def amount(found: Announcement) -> str:
    runs = [job for job in found.jobs if job.kind in ("proof", "round") and job.name not in found.idle]
    if not runs:
        if any(job.name in found.idle for job in found.jobs):
            return "No leg that has to be run can run here; the page says why."
        others = {job.kind for job in found.jobs} - {"report"}
        return "No leg has to be run." if others else "No leg has to be run; only the page is made anew."
    legs, seconds = len({job.name for job in runs}), left(found, found.jobs)
    unknown = f"how long that takes is unknown for profile {found.settings.profile} before a first run"
    return f"To do: {plural(legs, 'leg')} ({counted(runs)}), {unknown if seconds is None else about(seconds)}."


def left(found: Announcement, jobs: list[Job]) -> float | None:
    return estimate.remaining(jobs, lanes=found.lanes)


def counted(jobs: list[Job]) -> str:
    """`27 proofs, 54 rounds`."""
    kinds = [job.kind for job in jobs]
    return ", ".join(plural(kinds.count(kind), kind) for kind in ("proof", "round") if kind in kinds)


def download(found: Announcement) -> str:
    """What has to be fetched and installed, with its size as far as that is known."""
    names = [f"environments {', '.join(sorted(found.environments))}"] if found.environments else []
    names += [f"data {', '.join(found.data)}"] if found.data else []
    # An upper bound: environments share packages, and uv's cache may have some of them.
    sizes = (
        f": up to {size(found.download_mb)} to download and {size(found.disk_mb)} of disk" if found.download_mb else ""
    )
    unsized = f" (size unknown: {', '.join(sorted(found.unsized))})" if found.unsized else ""
    return f"Not here yet: {'; '.join(names)}{sizes}{unsized}."


def size(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def grouped(obstacles: list[Obstacle]) -> list[str]:
    """One line for all legs with the same remedy, or with the same reason where there is no remedy."""
    groups = {}
    for obstacle in obstacles:
        groups.setdefault(obstacle.remedy or obstacle.reason, []).append(obstacle)
    return [
        f"{', '.join(shortened([it.leg for it in group]))}: {with_remedy(group[0].reason, group[0].remedy)}"
        for group in groups.values()
    ]


def with_remedy(reason: str, remedy: str) -> str:
    """A reason with its remedy at the end, once."""
    reason = reason.removesuffix(f"; `{remedy}` tries again")
    return f"{reason}; then: {remedy}" if remedy and remedy not in reason else reason


def shortened(names: Iterable[str]) -> list[str]:
    """Names of legs, LANGUAGE/FRAMEWORK where all tasks of a framework are meant."""
    names, short = list(names), []
    for name in names:
        framework = name.rpartition("/")[0]
        whole = {leg.name for leg in discover() if leg.name.startswith(f"{framework}/")} <= set(names)
        short.append(framework if whole else name)
    return list(dict.fromkeys(short))
