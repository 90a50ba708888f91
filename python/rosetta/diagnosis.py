"""What `rosetta doctor` finds: of each leg whether it is ready, and what the machine is like right now."""

import json
import sys
from importlib.util import find_spec

import threadpoolctl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rosetta import environments, machine
from rosetta.frameworks import Leg, unreachable, unsupported
from rosetta.measuring import BUSY_PERCENT
from rosetta.plan import Plan


def examine(plan: Plan) -> dict:
    """{"machine", "threads", "blas", "other_load_percent", "legs": [{"leg", "state", "reason", "mend"}]}. Changes nothing."""
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
        "legs": [leg_state(plan, leg, found.get(leg.framework.environment, {})) for leg in plan.legs],
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
        "state": "not set up",
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


def leg_state(plan: Plan, leg: Leg, found: dict) -> dict:
    if leg.framework.retired:
        return {"leg": leg.name, "state": "retired", "reason": leg.framework.retired, "mend": ""}
    if reason := unsupported(leg, plan.settings):
        return {"leg": leg.name, "state": "unsupported", "reason": reason, "mend": ""}
    # The set-up of an environment for the CPU installs programs, where it may.
    ahead = found["state"] == "not set up" and plan.settings.device == "cpu"
    if not ahead and (reason := unreachable(leg, plan.settings, found.get("python") or sys.executable)):
        return {"leg": leg.name, "state": "unavailable", "reason": reason, "mend": ""}
    in_python = plan.settings.deployment == "current" and leg.framework.language == "python"
    if in_python and (missing := [name for name in leg.framework.libraries if not find_spec(name)]):
        return {
            "leg": leg.name,
            "state": "unavailable",
            "reason": f"{', '.join(missing)} cannot be imported in {sys.executable}",
            "mend": "install it there, or leave deployment=current out",
        }
    if found["state"] == "ready" and (reason := environments.lacking(leg, found)):
        return {
            "leg": leg.name,
            "state": "unavailable",
            "reason": reason,
            "mend": mend(plan, leg.framework.environment, reason, found["changed"]),
        }
    return {"leg": leg.name, "state": found["state"], "reason": found["reason"], "mend": found["mend"]}


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
    table = Table("leg", "state", "what is missing", "what mends it", box=None)
    for leg in found["legs"]:
        style = "green" if leg["state"] == "ready" else "yellow"
        table.add_row(leg["leg"], f"[{style}]{leg['state']}[/]", escape(leg["reason"]), leg["mend"])
    out.print(table)
