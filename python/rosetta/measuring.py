"""A leg's proof and its timed rounds: from a plan to a record."""

import hashlib
import json
import math
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rosetta import ceilings, config, data, environments, isolation, machine, prepare, published, records
from rosetta.config import ROOT, Settings
from rosetta.frameworks import Leg, unreachable, unsupported
from rosetta.plan import HISTORY, Golden, Plan
from rosetta.tasks import Task

BUSY_PERCENT = 15
"""Other load above this share of all cores is warned of."""


def nothing(event) -> None:
    """A listener that does not listen."""


def prove(
    plan: Plan,
    leg: Leg,
    say: Callable = nothing,
    listen: Callable = nothing,
    attempt: int | None = None,
    together: bool = False,
) -> dict:
    """Runs the proof of a leg and writes its record, whatever happens.

    Args:
        together: proofs may share a GPU; the caller starts no more of them than its memory has room for.
    """
    return run(plan, leg, 0, say, listen, attempt, together)


def measure(
    plan: Plan, leg: Leg, number: int, say: Callable = nothing, listen: Callable = nothing, attempt: int | None = None
) -> dict:
    """Runs round `number` of a leg and writes its record, whatever happens."""
    return run(plan, leg, number, say, listen, attempt)


def run(
    plan: Plan, leg: Leg, number: int, say: Callable, listen: Callable, attempt: int | None, together: bool = False
) -> dict:
    path = plan.run_record(leg, number)
    log = plan.log(leg, path.stem)
    record = blank(plan, leg, number, log, next_attempt(plan, leg, number) if attempt is None else attempt)
    if leg.framework.retired:
        record.update(status="retired", reason=retirement(leg))
    elif reason := unsupported(leg, plan.settings):
        record.update(status="unsupported", reason=reason)
    else:
        marker = json.loads(plan.environment(leg.framework.environment).read_text())
        if reason := obstacle(leg, plan.settings, marker):
            record.update(status="unavailable", reason=reason)
        else:
            work(plan, leg, number, marker, log, record, say, listen, together)
    records.write(path, record)
    records.remember(HISTORY, record)
    return record


def obstacle(leg: Leg, settings: Settings, marker: dict) -> str:
    """Why a leg cannot run on this machine, with the way out; empty where nothing is known to be missing."""
    python = environments.interpreter(marker, settings)
    return marker["reason"] or unreachable(leg, settings, python) or environments.lacking(leg, marker)


def next_attempt(plan: Plan, leg: Leg, number: int) -> int:
    """The number of a step's next attempt. It grows when the record no longer says what running the step now would give."""
    path = plan.run_record(leg, number)
    if not path.exists():
        return 1
    try:
        record = records.read(path)
    except records.RecordError:
        return 0  # it is in no state to say which it was
    return record["provenance"].get("attempt", 1) + outdated(plan, leg, number, record)


def outdated(plan: Plan, leg: Leg, number: int, record: dict) -> bool:
    """Whether a record was made with other settings, by hand, stopped at a limit that has been raised, or says what kept the leg from
    starting and no longer does."""
    made_with = record["provenance"].get("step_sha256")
    if made_with and made_with != step_sha256(plan, leg, number):
        return True
    if record["status"] == "timeout":
        return record["outer_seconds"] < plan.settings.timeout_seconds
    marker = plan.environment(leg.framework.environment)
    if record["outer_seconds"] or record["status"] not in ("unavailable", "failed") or not marker.exists():
        return False
    return not (obstacle(leg, plan.settings, json.loads(marker.read_text())) or damage(plan, leg))


def step_sha256(plan: Plan, leg: Leg, number: int) -> str:
    """Of the settings that a proof or a round depends on."""
    return hashlib.sha256(plan.run_settings(leg, number).encode()).hexdigest()


def damage(plan: Plan, leg: Leg) -> str:
    """What is wrong with the data or the weights that a leg reads; empty where they are whole."""
    try:
        data.check(plan.arrays(leg.task))
        data.check(plan.weights(leg.task))
    except data.DataError as error:
        return str(error)
    return ""


def blank(plan: Plan, leg: Leg, number: int, log: Path, attempt: int) -> dict:
    """A record with all that is known before the leg starts."""
    settings, task, framework = plan.settings, leg.task, leg.framework
    full = published_work(task.name)
    return {
        "record": 1,
        "kind": "round" if number else "proof",
        "leg": leg.name,
        "language": framework.language,
        "framework": framework.name,
        "task": task.name,
        "title": framework.title,
        "round": number,
        "profile": settings.profile,
        "device": settings.device,
        "precision": settings.precision,
        "computes": framework.computes or settings.precision,
        "threads": settings.threads if number else plan.proof_threads,
        "bridge": "none",
        "status": "unavailable",
        "reason": "",
        "work": {**settings.work[task.name], "warm_up": settings.warm_up, **full},
        "budget_seconds": settings.budget_seconds,
        "scoring_seconds": settings.scoring_seconds,
        "data": {"source": "none", "statement": "no data", "sha256": ""},
        "phases": [],
        "differences": [],
        "as_shipped": [],
        "as_shipped_why": framework.as_shipped.get(task.name, ""),
        "outer_seconds": 0.0,
        "peak_memory_mb": None,
        "energy_joules": None,
        "utilisation": None,
        "ceiling_gflops": None,
        "ceiling": "",
        "other_load_percent": None,
        "warnings": [],
        "versions": {},
        "machine": machine.facts(),
        "provenance": {
            **machine.provenance(settings.sha256, environments.lock_of(framework.environment, settings)),
            "step_sha256": step_sha256(plan, leg, number),
            "attempt": attempt,
            "overrides": list(settings.overrides),
            "command": " ".join(["rosetta run", leg.name, *(f"-c {shlex.quote(word)}" for word in settings.overrides)]),
        },
        "log": str(log),
    }


def retirement(leg: Leg) -> str:
    """What became of a framework, and what it reached when it was last compared."""
    figures = published.figures(leg.framework.published, leg.task.name)
    return f"{leg.framework.retired} {published.sentence(figures)}".strip()


def published_work(task: str) -> dict[str, int]:
    """The size of the published job, from the profile `full`."""
    full = config.profile("full")["work"][task]
    return {f"full_{name}": full[name] for name in ("batch", "samples", "epochs", "test_samples")}


def work(
    plan: Plan,
    leg: Leg,
    number: int,
    marker: dict,
    log: Path,
    record: dict,
    say: Callable,
    listen: Callable,
    together: bool = False,
) -> None:
    """Runs the worker and fills the record with what came of it."""
    settings, task = plan.settings, leg.task
    arrays = plan.arrays(task)
    if reason := damage(plan, leg):
        record.update(status="failed", reason=reason)
        return
    manifest = prepare.manifest(arrays)
    record["data"] = {"source": manifest["source"], "statement": manifest["statement"], "sha256": manifest["sha256"]}
    toolchain = marker["toolchain"] or {}
    record["bridge"] = toolchain.get("bridge", "python")
    if toolchain.get("warning"):
        record["warnings"].append(toolchain["warning"])
    comparisons = plan.comparisons(leg)
    job = {
        "verb": "measure" if number else "prove",
        "bridge": record["bridge"],
        "toolchain": toolchain,
        "root": str(ROOT),
        "file": str(leg.file),
        "folders": leg.framework.shared_folders,
        "libraries": leg.framework.libraries,
        "task": leg.for_worker(
            batch=record["work"]["batch"],
            precision=settings.precision,
            device=settings.device,
            threads=record["threads"],
        ),
        "data": str(arrays.resolve()),
        "weights": str(plan.weights(task).resolve()),
        "comparisons": [
            # What `load` does is shown by the comparison of all steps.
            {**comparison(precision, golden), "reload": golden.steps == settings.proof_steps}
            for precision, golden in comparisons
        ],
        "as_shipped": None,
        **{key: record["work"][key] for key in ("samples", "epochs", "test_samples", "warm_up")},
        **{key: record[key] for key in ("budget_seconds", "scoring_seconds")},
    }
    if leg.task.name in leg.framework.as_shipped:
        job["as_shipped"] = comparison(comparisons[-1][0], plan.goldens(task)[0])
    own = leg.framework.variables_for(record["threads"])
    extra = {**toolchain.get("environment", {}), **marker["variables"], **own}
    variables = isolation.variables(record["threads"], settings.device, extra, settings.deployment)
    python = environments.interpreter(marker, settings)
    # Proofs may share processors, as nobody times them; a GPU's memory is for one leg alone, unless the caller says that it suffices.
    shared = not number and (together or settings.device == "cpu")
    with isolation.device_lock(settings.device, say, shared=shared):
        if number:
            record["other_load_percent"] = machine.other_load()
            ceiling = ceilings.of(plan, record["computes"], say)
            record.update(ceiling_gflops=ceiling.gflops, ceiling=ceiling.source)
        outcome = isolation.run(python, job, variables, log, settings.timeout_seconds, listen)
        # With the device still ours: the ceiling may need a second look.
        fill(record, outcome, settings, leg, {} if number else drifts(comparisons))


def comparison(precision: str, golden: Golden) -> dict:
    """A comparison of the proof, as the worker gets it."""
    return {"precision": precision, "batch": golden.batch, "golden": str(golden.path.resolve())}


Drifts = dict[tuple[str, int, str, int], float]
"""{(precision, batch, quantity, step): how far this precision drifts on these samples}."""


def drifts(comparisons: list[tuple[str, Golden]]) -> Drifts:
    """What the golden values say of the drift of each comparison's precision."""
    found = {}
    for precision, golden in comparisons:
        prefix = f"drift {precision} "
        with np.load(golden.path, allow_pickle=False) as values:
            for name in values.files:
                if name.startswith(prefix):
                    quantity, _, step = name.removeprefix(prefix).rpartition(" ")
                    found[precision, golden.batch, quantity, int(step)] = float(values[name])
    return found


def fill(record: dict, outcome: isolation.Outcome, settings: Settings, leg: Leg, drift: Drifts) -> None:
    """The outcome of a worker, its judgement and its plausibility."""
    record.update(
        status=outcome.status,
        reason=outcome.reason,
        outer_seconds=outcome.outer_seconds,
        peak_memory_mb=outcome.peak_memory_mb,
    )
    record["phases"] = [finite(phase) for phase in outcome.of("phase")]
    for found in outcome.of("versions"):
        record["versions"].update(found["versions"])
    record["differences"] = [judge(difference, leg, drift) for difference in outcome.of("difference")]
    record["as_shipped"] = [finite_difference(difference) for difference in outcome.of("as_shipped")]
    if leg.framework.computes and leg.framework.computes != settings.precision:
        record["warnings"].append(
            f"{leg.framework.title} computes in {leg.framework.computes}, its only precision, not {settings.precision}"
        )
    if (load := record["other_load_percent"] or 0) > BUSY_PERCENT:
        record["warnings"].append(
            f"other processes kept {load:.0f} % of the processor busy just before the run; measure again when they have gone"
        )
    if record["status"] != "ok":
        return
    bad = [d for d in record["differences"] if not d["passed"]]
    if bad and leg.framework.variant:
        record.update(status="variant", reason=leg.framework.variant)
    elif bad:
        worst = bad[0]
        size = "not a finite number" if worst["difference"] is None else f"{worst['difference']:.1e}"
        at = f" at step {worst['step']}" if worst["step"] or worst["quantity"] == "logits" else ""
        quantities = [d["quantity"] for d in bad if d["precision"] == worst["precision"]]
        families = dict.fromkeys("gradients" if name.startswith("gradient") else name for name in quantities)
        record.update(
            status="mismatch",
            reason=f"{worst['precision']} {worst['quantity']}{at} differs by {size}, allowed is {worst['tolerance']:.0e} ({len(bad)} of "
            f"{len(record['differences'])} comparisons fail, in {worst['precision']} those of {', '.join(families)})",
        )
    elif record["kind"] == "proof" and not record["differences"]:
        record.update(status="invalid", reason="the proof compared nothing")
    if record["kind"] == "round":
        implausible(record, leg)


def judge(difference: dict, leg: Leg, drift: Drifts) -> dict:
    precision, batch, quantity, step = (difference[key] for key in ("precision", "batch", "quantity", "step"))
    family = "gradient" if quantity.startswith("gradient") else quantity
    bound = leg.task.bound(precision, quantity, step, drift.get((precision, batch, family, step), 0.0))
    size = finite_difference(difference)["difference"]
    return {**difference, "difference": size, "tolerance": bound, "passed": size is not None and size <= bound}


def finite_difference(difference: dict) -> dict:
    size = difference["difference"]
    return {**difference, "difference": size if size is not None and math.isfinite(size) else None}


def finite(phase: dict) -> dict:
    """JSON has no NaN: a loss that is none becomes null."""
    if "losses" in phase:
        phase["losses"] = [loss if math.isfinite(loss) else None for loss in phase["losses"]]
    return phase


IMPLAUSIBLE = 2.0
"""Times the ceiling beyond which a speed is not believed. A library's kernels may be better than those of the ceiling (OpenVINO reaches 1.1 of
NumPy's BLAS with AVX-512), leave out products with the padding's zeros, or save multiplications. Winograd's convolution saves up to a factor
of 2.25 in a 3x3 layer, and more in larger tiles, but pays for it with additions and memory, and the other layers take their time too. A
clock that does not wait for queued work errs by far more."""


def implausible(record: dict, leg: Leg) -> None:
    """Rejects what cannot be: twice as fast as the device's own ceiling, or phases longer than the process lived."""
    total = sum(phase["seconds"] for phase in record["phases"])
    work = record["work"]
    calls = records.calls(record)
    if total > record["outer_seconds"]:
        record.update(
            status="invalid",
            reason=f"its phases last {total:.2f} s, but its process only {record['outer_seconds']:.2f} s",
        )
    if not calls or not record["ceiling_gflops"]:
        return
    step_seconds = min(call["seconds"] / records.steps(call, work) for call in calls)
    passes = 3 if leg.task.trained else 1  # forward, and two products of the same size for each on the way back
    gflops = leg.task.flops * passes * work["batch"] / step_seconds / 1e9
    if record["device"] == "cpu" and gflops > record["ceiling_gflops"]:
        # The machine may have been busy while the ceiling was taken: a second, longer look.
        again = machine.ceiling_gflops(record["threads"], record["computes"], tries=20)
        record["ceiling_gflops"] = max(record["ceiling_gflops"], again)
    record["utilisation"] = gflops / record["ceiling_gflops"]
    if record["utilisation"] > IMPLAUSIBLE:
        record.update(
            status="invalid",
            reason=f"{gflops:.0f} GFLOP/s is more than {IMPLAUSIBLE:g} times this device's ceiling of "
            f"{record['ceiling_gflops']:.0f} ({record['ceiling']})",
        )


def ensure_data(plan: Plan, task: Task, say: Callable = nothing) -> dict:
    """Makes what a task needs and is missing: arrays, weights, golden values. Gives the manifest of the arrays."""
    manifest = ensure_arrays(plan, task)
    for golden in missing_goldens(plan, task):
        say(f"{task.name}: computing the golden values in float64")
        prepare.golden(plan, task, golden)
    return manifest


def ensure_arrays(plan: Plan, task: Task) -> dict:
    """Makes what a round of a task needs and is missing: arrays and weights. Gives the manifest of the arrays."""
    manifest = prepare.arrays(plan, task, data.Bars())
    if not (plan.weights(task) / "manifest.json").exists():
        prepare.weights(plan, task)
    return manifest


def missing_goldens(plan: Plan, task: Task) -> list[Golden]:
    """The golden values of a task that are not there, or are older than the arrays or the code that they come from."""
    newest = max(it.stat().st_mtime for it in (plan.arrays(task) / "manifest.json", *prepare.golden_sources()))
    return [it for it in plan.goldens(task) if not it.path.exists() or it.path.stat().st_mtime < newest]


def provide(plan: Plan, name: str, say: Callable = print, generation: int | None = None) -> dict:
    """Makes an environment and writes its marker, whose text says ready or why not. A newer marker calls for new runs of its legs, so it is
    left as it is where nothing has changed.
    """
    generation = generation or environments.generation(name, plan.settings, plan.environment(name))
    found = environments.provide(name, plan.settings, say)
    found.update(generation=generation, situation=environments.situation(name, plan.settings))
    records.write_changed(plan.environment(name), json.dumps(found, indent=1) + "\n")
    return found


def gather(plan: Plan, leg: Leg) -> dict:
    """Joins a leg's proof and rounds into its record."""
    rounds = [records.read(plan.round(leg, number)) for number in range(1, plan.settings.rounds + 1)]
    record = records.gather(records.read(plan.proof(leg)), rounds)
    records.write(plan.record(leg), record)
    return record


def workdir() -> Path:
    """Where shared_data and reports lie: the variable ROSETTA_WORKDIR (a pipeline sets its own), else the checkout."""
    return Path(os.environ.get("ROSETTA_WORKDIR") or ROOT)
