"""What `rosetta doctor` finds: of each leg whether it is ready, and what the machine is like right now."""

import json
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec

import threadpoolctl
from rich.console import Console
from rich.table import Column, Table

from rosetta import environments, machine
from rosetta.frameworks import Leg, unreachable, unsupported
from rosetta.measuring import BUSY_PERCENT
from rosetta.plan import Plan

NOT_SET_UP = "not set up"


@dataclass(frozen=True)
class Row:
    """A line of the table: a framework whose tasks are all in the same state, or one leg of a framework whose tasks are not."""

    name: str
    group: str
    state: str
    reason: str
    mend: str


def together(legs: list[dict]) -> list[Row]:
    """The rows of the table, those that the same command mends next to one another, what is ready first."""
    frameworks = {}
    for leg in legs:
        frameworks.setdefault(leg["leg"].rpartition("/")[0], []).append(leg)
    rows = []
    for name, tasks in frameworks.items():
        found = [Row(leg["leg"], leg["group"], leg["state"], leg["reason"], leg["mend"]) for leg in tasks]
        alike = {(row.state, row.reason, row.mend) for row in found}
        rows += [replace(found[0], name=name)] if len(alike) == 1 else found
    first = list(dict.fromkeys((row.state, row.mend) for row in rows))
    return sorted(rows, key=lambda row: (row.state != "ready", first.index((row.state, row.mend))))


def examine(plan: Plan) -> dict:
    """{"machine", "threads", "blas", "other_load_percent", "legs": [{"leg", "group", "state", "reason", "mend"}]}.

    Changes nothing."""
    found = {name: environment(plan, name) for name in plan.environments()}
    return {
        "machine": machine.facts(),
        "device": plan.settings.device,
        "threads": plan.settings.threads,
        "blas": [
            f"{pool['internal_api']} {pool['version']}"
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "blas"
        ],
        "other_load_percent": machine.other_load(1.0),
        "environments": found,
        "legs": [
            {"leg": leg.name, "group": leg.framework.group}
            | leg_state(plan, leg, found.get(leg.framework.environment, {}))
            for leg in plan.legs
        ],
    }


def environment(plan: Plan, name: str) -> dict:
    """State of an environment by the marker that its set-up left, and the language that is at hand."""
    marker = plan.environment(name)
    situation = environments.situation(name, plan.settings)
    threads = getattr(environments.toolchain(name), "SINGLE", {}).get("JULIA_NUM_THREADS")
    known = {
        "language": situation["language"],
        "threads": f"{threads} of Julia, {plan.settings.threads} of BLAS" if threads else "",
    }
    if marker.exists():
        made = json.loads(marker.read_text())
        if made["lock"] == situation["lock"]:
            changed = made["situation"] != situation
            return {
                **known,
                "state": made["status"],
                "reason": made["reason"],
                "mend": mend(plan, name, made["reason"], changed),
                "changed": changed,
                "toolchain": made["toolchain"],
                "python": environments.interpreter(made, plan.settings),
            }
    return {
        **known,
        "state": NOT_SET_UP,
        "reason": "its environment has not been made yet",
        "mend": environments.set_up(name, plan.settings),
    }


def mend(plan: Plan, name: str, reason: str, changed: bool) -> str:
    """The command that mends an environment; unless the situation has changed since, a reason's own way out (behind `; `) comes first."""
    if not reason or environments.unfit_platform(environments.needs(name).only):
        return ""
    command = environments.set_up(name, plan.settings)
    own = reason.removesuffix(f"; `{command}` tries again")
    return command if changed or "; " not in own else f"as it says, then {command}"


def leg_state(plan: Plan, leg: Leg, found: dict) -> dict[str, str]:
    """{"state", "reason", "mend"} of a leg, in the environment that was found."""
    if leg.framework.retired:
        return {"state": "retired", "reason": leg.framework.retired, "mend": ""}
    if reason := unsupported(leg, plan.settings):
        return {"state": "unsupported", "reason": reason, "mend": ""}
    # The set-up of an environment for the CPU installs programs, where it may.
    ahead = found["state"] == NOT_SET_UP and plan.settings.device == "cpu"
    if not ahead and (reason := unreachable(leg, plan.settings, found.get("python") or sys.executable)):
        return {"state": "unavailable", "reason": reason, "mend": ""}
    in_python = plan.settings.deployment == "current" and leg.framework.language == "python"
    if in_python and (missing := [name for name in leg.framework.libraries if not find_spec(name)]):
        return {
            "state": "unavailable",
            "reason": f"{', '.join(missing)} cannot be imported in {sys.executable}",
            "mend": "install it there, or leave deployment=current out",
        }
    if found["state"] == "ready" and (reason := environments.lacking(leg, found)):
        return {
            "state": "unavailable",
            "reason": reason,
            "mend": mend(plan, leg.framework.environment, reason, found["changed"]),
        }
    return {"state": found["state"], "reason": found["reason"], "mend": found["mend"]}


def show(found: dict, out: Console) -> None:
    facts = found["machine"]
    out.print(
        f"{facts['processor']}, {found['threads']} threads of {facts['threads']}, {facts['memory_gib']} GiB, {facts['system']}",
        markup=False,
    )
    gpus = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in facts["gpus"]) or "no NVIDIA GPU"
    out.print(f"{gpus}; BLAS of the harness: {', '.join(found['blas']) or 'unknown'}", markup=False)
    load = found["other_load_percent"]
    out.print(
        f"other load: {load:.0f} %{' - too busy for numbers that can be trusted' if load > BUSY_PERCENT else ''}",
        markup=False,
    )
    for name, made in found["environments"].items():
        chain = {**(made["language"] or {}), **(made.get("toolchain") or {})}
        if chain:
            words = [
                f"{key} {chain[key]}"
                for key in ("version", "bridge", "optimization", "blas", "kernels", "origin", "warning")
                if chain.get(key)
            ]
            if made["threads"]:
                words.append(f"threads: {made['threads']}")
            if packages := chain.get("packages"):
                words.append("packages " + ", ".join(f"{package} {version}" for package, version in packages.items()))
            if missing := chain.get("missing"):
                words.append(f"missing {', '.join(missing)}")
            out.print(f"{name}: {'; '.join(words)}", markup=False)
    rows = together(found["legs"])
    names = Column("framework", no_wrap=True, min_width=max(len(row.name) for row in rows))
    # What a set-up brings is said by its command alone; every other reason is said once, below, with a number.
    reasons = list(dict.fromkeys(row.reason for row in rows if row.reason and row.state != NOT_SET_UP))
    table = Table(names, "group", "state", "what to do", box=None)
    for row in rows:
        style = "green" if row.state == "ready" else "yellow"
        note = f"see ({reasons.index(row.reason) + 1})" if row.reason in reasons else ""
        table.add_row(row.name, row.group, f"[{style}]{row.state}[/]", ", ".join(filter(None, (row.mend, note))))
    out.print(table)
    for number, reason in enumerate(reasons, start=1):
        out.print(f"({number}) {reason}", markup=False)
