"""What the harness costs: a leg's epoch under it against the same network in a bare loop, in turn, each in fresh processes.

    .venv/bin/python benchmarks/overhead.py 'python/*/cnn' --rounds 3        after `make report` or `rosetta setup`

Prints, for each leg, both medians and their ratio with its 95 % interval. A benchmark and no test: its result depends on how busy the machine is.
"""

import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rosetta import cli, environments, isolation, measuring
from rosetta.frameworks import unsupported
from rosetta.plan import Plan
from rosetta.report.statistics import ratio_interval
from rosetta.worker.julia import setting

BARE = {"python": Path(__file__).with_name("bare.py"), "julia": Path(__file__).with_name("bare.jl")}


def main(
    legs: list[str],
    rounds: Annotated[int, typer.Option(help="fresh processes of each side")] = 3,
    overrides: Annotated[list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE")] = None,
):
    settings = cli.settings([*(overrides or []), "rounds=1"])
    plan = Plan.of(settings, legs, apart=True)
    print(f"{'leg':<34} {'harness, s':>10} {'bare, s':>10} {'ratio':>6}  95 % interval")
    for leg in plan.legs:
        if leg.framework.retired or unsupported(leg, settings):
            continue
        if leg.framework.language not in BARE:
            print(f"{leg.name:<34} there is no bare loop in this language yet")
            continue
        made, reason = made_for(plan, leg)
        if reason:
            print(f"{leg.name:<34} {reason}")
            continue
        sides = [], []
        for number in range(rounds):
            order = (harness, bare) if number % 2 else (bare, harness)
            for side in order:
                sides[side is bare].append(side(plan, leg, made))
        medians = [statistics.median(sum(side, [])) for side in sides]
        low, high = ratio_interval(*sides)
        print(
            f"{leg.name:<34} {medians[0]:>10.3f} {medians[1]:>10.3f} {medians[0] / medians[1]:>6.3f}  {low:.3f} to {high:.3f}",
            flush=True,
        )


def made_for(plan: Plan, leg) -> tuple[dict, str]:
    """A leg's data and environment, made if they have to be: (environment, why it cannot run)."""
    measuring.ensure_data(plan, leg.task)
    made = measuring.provide(plan, leg.framework.environment, lambda text: None)
    return made, made["reason"] or environments.lacking(leg, made)


def harness(plan: Plan, leg, made: dict) -> list[float]:
    record = measuring.measure(plan, leg, 1)
    if record["status"] != "ok":
        raise SystemExit(f"{leg.name}: {record['status']}: {record['reason']}")
    return [phase["seconds"] for phase in record["phases"] if phase["phase"] == "epoch"]


def bare(plan: Plan, leg, made: dict) -> list[float]:
    settings, task = plan.settings, leg.task
    work = settings.work[task.name]
    folder, weights = plan.arrays(task).resolve(), plan.weights(task).resolve()
    names = [entry["name"] for entry in json.loads((weights / "manifest.json").read_text())["arrays"]]
    fields = dict(batch=work["batch"], precision=settings.precision, device=settings.device, threads=settings.threads)
    spec = {
        "file": str(leg.file),
        "folders": leg.framework.shared_folders,
        "task": leg.for_worker(**fields),
        "weights": {name: str(weights / f"{name}.npy") for name in names},
        "x": str(folder / ("x_train.npy" if task.trained else "x.npy")),
        "y": str(folder / "y_train.npy"),
        "samples": work["samples"],
        "epochs": work["epochs"],
    }
    own = leg.framework.variables_for(settings.threads)
    tools = made["toolchain"] or {}
    extra = {**tools.get("environment", {}), **made["variables"], **own}
    environment = isolation.variables(settings.threads, settings.device, extra, settings.deployment)
    command, text = [made["python"], str(BARE["python"])], json.dumps(spec)
    if leg.framework.language == "julia":
        project = [f"--project={tools['project']}"] if tools.get("project") else []
        command = [tools["julia"], *tools["arguments"], "--startup-file=no", *project, str(BARE["julia"])]
        text = for_julia(spec, task.trained)
    with tempfile.NamedTemporaryFile("w", suffix=".spec") as file, isolation.device_lock(settings.device, print):
        file.write(text)
        file.flush()
        done = subprocess.run([*command, file.name], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{leg.name}: the bare loop failed: {done.stderr.strip().splitlines()[-1]}")
    last = done.stdout.strip().splitlines()[-1]
    return json.loads(last) if leg.framework.language == "python" else [float(word) for word in last.split()]


def for_julia(spec: dict, trained: bool) -> str:
    """The specification as lines of words: plain Julia reads no JSON."""
    lines = [["file", spec["file"]], ["epochs", spec["epochs"]]]
    lines += [["setting", name, *setting(value)] for name, value in spec["task"].items()]
    for name, path in spec["weights"].items():
        array = np.load(path, mmap_mode="r")
        lines.append(["weight", name, shape(array.shape), array.offset, path])
    for name in ("x", "y") if trained else ("x",):
        array = np.load(spec[name], mmap_mode="r")
        count = min(spec["samples"], len(array))
        lines.append([name, array.dtype.name, shape((count, *array.shape[1:])), array.offset, spec[name]])
    return "".join("\t".join(map(str, words)) + "\n" for words in lines)


def shape(dimensions: tuple[int, ...]) -> str:
    """In Julia's order: the last dimension of a C-order array is Julia's first."""
    return ",".join(map(str, reversed(dimensions)))


if __name__ == "__main__":
    typer.run(main)
