"""What a leg's speed is held against: the best that a matrix product of the same precision reaches on the same device."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from rosetta import environments, isolation, machine, records
from rosetta.config import Settings
from rosetta.plan import REPORTS, Plan

MULTIPLIERS = ("modern", "more", "tensorflow")
"""Environments with a library that multiplies matrices on a GPU, in the order in which they are asked. The harness has none."""
LASTS = timedelta(hours=12)
"""How long a measured ceiling is kept for other legs. A run has one for all; a later one does not inherit a bad moment."""
LIMIT_SECONDS = 120
"""A library that hangs is given up. Importing one and multiplying takes some five seconds."""


@dataclass(frozen=True)
class Ceiling:
    """A ceiling in 1e9 floating-point operations a second, and how it came about; None and an empty text where it is not known."""

    gflops: float | None = None
    source: str = ""


def of(plan: Plan, precision: str, say: Callable[[str], None]) -> Ceiling:
    """The ceiling of the device that legs are about to be timed on, which has to be free."""
    if plan.settings.device == "cuda":
        return on_gpu(plan, precision, say)
    if precision not in machine.CEILINGS:
        return Ceiling()
    gflops = machine.ceiling_gflops(plan.settings.threads, precision)
    return Ceiling(gflops, f"a matrix product in NumPy {np.__version__}")


def on_gpu(plan: Plan, precision: str, say: Callable[[str], None]) -> Ceiling:
    """Measured in the first environment that can, once for all legs of a run.

    Where none can, fp32 has what the GPU's cores and its highest clock would allow, and no other precision has anything.
    """
    path = plan.ceiling(precision)
    asked = interpreters(plan)
    situation = {
        "gpus": machine.gpus(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "interpreters": asked,
    }
    now = datetime.now(timezone.utc)
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["situation"] == situation and now - datetime.fromisoformat(kept["date"]) < LASTS:
            return Ceiling(kept["gflops"], kept["source"])
    say(f"measuring what a matrix product in {precision} reaches on this GPU")
    peak = machine.gpu_peak_gflops(precision)
    found = Ceiling(peak, "cores and highest clock") if peak else Ceiling()
    reasons = {}
    for python in asked:
        outcome = multiply(python, precision, plan.settings)
        if outcome.status == "ok":
            found = Ceiling(**outcome.of("ceiling")[0])
            break
        reasons[python] = outcome.reason
    kept = {"precision": precision, "gflops": found.gflops, "source": found.source, "refused": reasons}
    kept.update(date=now.isoformat(timespec="seconds"), situation=situation)
    records.write_text(path, json.dumps(kept, indent=1) + "\n")
    return found


def interpreters(plan: Plan) -> dict[str, dict | str]:
    """{interpreter: what its packages are} of those that may have a library for the GPU."""
    if plan.settings.deployment == "current":
        return {sys.executable: {name: environments.at_hand(name) for name in MULTIPLIERS}}
    paths = [path for name in MULTIPLIERS if (path := plan.environment(name)).exists()]
    markers = [json.loads(path.read_text()) for path in paths]
    return {marker["python"]: marker["lock"] for marker in markers if marker["status"] == "ready"}


def multiply(python: str, precision: str, settings: Settings) -> isolation.Outcome:
    """Runs the worker that multiplies; its answer is the event `ceiling`."""
    task = {"device": settings.device, "precision": precision, "threads": settings.threads}
    variables = isolation.variables(settings.threads, settings.device, {}, settings.deployment)
    log = REPORTS / "logs" / f"ceiling-{settings.device}-{precision}.log"
    return isolation.run(python, {"verb": "ceiling", "task": task}, variables, log, LIMIT_SECONDS)
