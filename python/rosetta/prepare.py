"""Shared data of a task, made once: arrays, canonical weights, golden values."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from rosetta import data, initial, records, reference
from rosetta.plan import Golden, Plan
from rosetta.tasks import Task
from rosetta.worker.job import change, open_weights
from rosetta.worker.proof import CHECKPOINTS, distance, relative

HARNESS = Path(__file__).parent

DRAWS = (0, -1, 1)
"""The reference is computed in float32 once for each, the samples of each batch in another order: one draw of rounding may be small by luck.
What float32 cannot decide (`reference.UNDECIDED`) goes as it happens to, then all of it one way, then the other. The last draw has Adam's
1 - beta rounded too."""


def arrays(plan: Plan, task: Task, progress=None, generation: int | None = None) -> dict:
    """Prepares a task's arrays, writes their marker and gives their manifest. Raises data.DataError.

    The marker is what the pipeline looks at, for it deletes what it is about to make anew, and arrays are not to be lost. A newer marker
    calls for new runs of the task's legs, so it is left as it is where nothing has changed.
    """
    settings = plan.settings
    generation = generation or data_generation(plan, task)
    manifest = data.prepare(
        task.name,
        plan.arrays(task),
        source=settings.data,
        folder=Path(settings.data_folder) if settings.data_folder else None,
        accept_other_checksum=settings.accept_other_checksum,
        pictures=settings.work[task.name]["samples"],
        progress=progress,
    )
    marker = {"generation": generation, "source": manifest["source"], "sha256": manifest["sha256"]}
    records.write_changed(plan.data_marker(task), json.dumps(marker) + "\n")
    return manifest


def data_generation(plan: Plan, task: Task) -> int:
    """A number that grows when real arrays may now be had in place of the synthetic ones that `auto` fell back on."""
    marker = plan.data_marker(task)
    if not marker.exists():
        return 1
    made = json.loads(marker.read_text())
    fell_back = made["source"] == "synthetic" and plan.settings.data != "synthetic"
    folder = plan.settings.data_folder or os.environ.get("ROSETTA_DATA_DIR")
    return made["generation"] + bool(fell_back and folder)


def weights(plan: Plan, task: Task) -> None:
    """Draws the canonical initial weights."""
    target = plan.weights(task)
    drawn = initial.draw(task)
    data.write_arrays(target, drawn.items(), {"task": task.name, "seed": task.seed})


def golden_sources() -> list[Path]:
    """The code that golden values come from: what changes it calls for new ones."""
    return [HARNESS / name for name in ("reference.py", "tasks.py", "prepare.py", "worker/proof.py")]


def golden(plan: Plan, task: Task, wanted: Golden) -> None:
    """Computes golden values of the proof, in float64, from the shared weights and the first samples; shows a bar."""
    work = SimpleNamespace(**task.for_worker(batch=wanted.batch))
    count = wanted.batch * wanted.steps
    folder = plan.arrays(task)
    x = np.load(folder / ("x_train.npy" if task.trained else "x.npy"), mmap_mode="r")[:count]
    y = np.load(folder / "y_train.npy", mmap_mode="r")[:count] if task.trained else None
    steps = tuple(step for step in CHECKPOINTS if step <= wanted.steps)
    given = (open_weights(plan.weights(task)), x, y, steps)
    draws = DRAWS if task.trained else DRAWS[:1] if wanted.precision != "fp32" else ()
    with data.Bars().stage(f"{task.name}: golden values", (1 + len(draws)) * max(steps)) as advance:
        exact = reference.golden(work, *given, lambda step: advance(1))
        values = dict(exact)
        for draw, side in enumerate(draws):
            # One draw as in the libraries that keep the optimizer's settings in float32 too.
            rounding = change(work, single_betas=draw == len(draws) - 1)
            with reference.products_in(wanted.precision), reference.undecided_gates(side):
                rounded = reference.golden(rounding, *given, lambda step: advance(1), np.float32, shuffle=draw)
            found = drift(exact, rounded, steps if task.trained else (), wanted.precision)
            values.update({name: max(size, values.get(name, size)) for name, size in found.items()})
    with records.replacing(wanted.path) as temporary:
        np.savez(temporary, **values)


def drift(exact: dict, rounded: dict, steps: tuple[int, ...], precision: str) -> dict:
    """How far the reference itself drifts in a precision: `drift PRECISION QUANTITY STEP`, for what rounding moves.

    These are logits and losses at each checkpoint and the gradients, of which the largest relative difference of a norm speaks for all;
    with rounded products also the logits and features before any step.
    """
    found = {f"logits {k}": distance(rounded[f"logits_{k}"], exact[f"logits_{k}"]) for k in steps}
    found.update({f"loss {k}": distance(rounded["losses"][:k], exact["losses"][:k]) for k in steps})
    if steps:
        norms = {name.removeprefix("gradient "): norm for name, norm in rounded.items() if name.startswith("gradient ")}
        found["gradient 1"] = max(relative(norms, exact).values())
        found["logits after load 1"] = found["logits 1"]
        if precision != "fp32":
            found["logits 0"] = found["logits after load 0"] = distance(rounded["logits_0"], exact["logits_0"])
    elif precision != "fp32":
        found["features 0"] = distance(rounded["features"], exact["features"])
    return {f"drift {precision} {name}": np.float64(size) for name, size in found.items()}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())
