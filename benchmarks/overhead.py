"""What the harness costs: a leg's epoch under it against the same work in a bare loop.

    .venv/bin/python benchmarks/overhead.py 'python/*/cnn' --rounds 2 -c work.cnn.epochs=8        after `make report` or `rosetta setup`

Epochs of both kinds alternate within one process: two processes of the same work differ by 5 to 10 % (where their memory lies, which core they
got), more than what is looked for. The parent that watches the process is there for both kinds; its own part is counted: `watcher` is its
processor time as a share of one core's. `--apart` gives each side processes of its own, in turn: the bare one then has nothing of the harness
about it, neither the worker nor the watcher; a leg of Julia is always measured so.

`--steps N` compares whole epochs with calls of N batches instead, in turn in one process, scaled to an epoch: what a time budget makes of a round.

Prints, for each leg, both medians, and the ratio of an epoch to the mean of the bare epochs before and after it (the median; `--apart`: the ratio
of the medians) with its 95 % interval. A benchmark and no test: its result depends on how busy the machine is.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rosetta import cli, isolation, measuring
from rosetta.frameworks import Leg, unsupported
from rosetta.plan import Plan
from rosetta.report.statistics import interval, ratio_interval
from rosetta.worker.julia import setting

NO_BUDGET = ("budget_seconds=null", "scoring_seconds=null")
"""Settings under which every call of `train` is a whole epoch."""

BARE = {"python": Path(__file__).with_name("bare.py"), "julia": Path(__file__).with_name("bare.jl")}


class Alternating(Leg):
    """A leg inside alternating.py."""

    file = Path(__file__).with_name("alternating.py")

    @classmethod
    def around(cls, leg: Leg, steps: int) -> "Alternating":
        options = {**leg.framework.options, "alternated": str(leg.file), "alternated_steps": steps}
        return cls(replace(leg.framework, options=options), leg.task)


def main(
    legs: list[str],
    rounds: Annotated[int, typer.Option(help="fresh processes, of each side where they are apart")] = 3,
    apart: Annotated[bool, typer.Option("--apart", help="a process for each side")] = False,
    steps: Annotated[int, typer.Option(help="batches of a short call to compare with; 0: the bare loop")] = 0,
    overrides: Annotated[list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE")] = None,
):
    with cli.plain_errors():
        settings = cli.settings([*(overrides or []), "rounds=1", *NO_BUDGET])
        plan = Plan.of(settings, legs, apart=True)
        print(
            f"{'leg':<34} {'harness, s':>10} {'short, s' if steps else 'bare, s':>10} {'ratio':>6}  {'95 % interval':<16} watcher"
        )
        for leg in plan.legs:
            if leg.framework.retired or unsupported(leg, settings):
                continue
            print(f"{leg.name:<34} {line(plan, leg, rounds, apart, steps)}", flush=True)


def line(plan: Plan, leg: Leg, rounds: int, apart: bool, steps: int) -> str:
    """What came of a leg, or why it cannot be compared: the other legs go on."""
    if leg.framework.language not in BARE:
        return "there is no bare loop in this language yet"
    apart = apart or leg.framework.language != "python"
    work = plan.settings.work[leg.task.name]
    if steps and apart:
        return "short calls are compared within one process, of Python's legs alone"
    if steps > work["samples"] // work["batch"]:
        return f"an epoch has {work['samples'] // work['batch']} batches, --steps {steps} is more"
    if not apart and plan.settings.work[leg.task.name]["epochs"] < 2:
        return f"two epochs are the least, as the first warms up: -c work.{leg.task.name}.epochs=8"
    made, reason = made_for(plan, leg)
    if reason:
        return reason
    try:
        if apart:
            medians, ratio, (low, high), watcher = in_turn(plan, leg, made, rounds)
        else:
            medians, ratio, (low, high), watcher = alternated(plan, leg, made, rounds, steps)
    except Failed as error:
        return str(error)
    return f"{medians[0]:>10.3f} {medians[1]:>10.3f} {ratio:>6.3f}  {low:.3f} to {high:.3f}   {watcher:.2%}"


def say(text: str) -> None:
    """To the person who waits, not into the table."""
    print(text, file=sys.stderr)


class Failed(Exception):
    """A leg did not come to its end; the message says how."""


def alternated(plan: Plan, leg: Leg, made: dict, rounds: int, steps: int):
    """Both kinds of epoch in one process: medians in seconds, the median of the ratios, its interval, the watcher's share."""
    sides, ratios, watched = ([], []), [], []
    for _ in range(rounds):
        phases, watcher = timed(plan, Alternating.around(leg, steps), made)
        # The first of each kind warms up: the bare loop reads arrays that nothing has read before.
        own, bare = (seconds_of(phases, kind)[1:] for kind in ("epoch", "collection"))
        if steps:
            work = plan.settings.work[leg.task.name]
            bare = [seconds * (work["samples"] // work["batch"]) / steps for seconds in bare]
        sides[0].extend(own)
        sides[1].extend(bare)
        ratios.append([math.log(one / ((before + after) / 2)) for one, before, after in zip(own, bare, bare[1:])])
        watched.append(watcher)
    low, high = interval(ratios)
    ratio = math.exp(statistics.median(sum(ratios, [])))
    return [statistics.median(side) for side in sides], ratio, (math.exp(low), math.exp(high)), max(watched)


def in_turn(plan: Plan, leg: Leg, made: dict, rounds: int):
    """Each kind of epoch in processes of its own: medians in seconds, their ratio, its interval, the watcher's share."""
    sides, watched = ([], []), []
    for number in range(rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            if side:
                sides[1].append(bare(plan, leg, made))
            else:
                phases, watcher = timed(plan, leg, made)
                sides[0].append(seconds_of(phases, "epoch"))
                watched.append(watcher)
    medians = [statistics.median(sum(side, [])) for side in sides]
    return medians, medians[0] / medians[1], ratio_interval(*sides), max(watched)


def made_for(plan: Plan, leg) -> tuple[dict, str]:
    """A leg's data and environment, made if they have to be: (environment, why it cannot run)."""
    measuring.ensure_data(plan, leg.task)
    made = measuring.provide(plan, leg.framework.environment, lambda text: None)
    return made, measuring.obstacle(leg, plan.settings, made)


def harness(plan: Plan, leg, made: dict) -> list[float]:
    phases, _ = timed(plan, leg, made)
    return seconds_of(phases, "epoch")


def seconds_of(phases: list[dict], kind: str) -> list[float]:
    return [phase["seconds"] for phase in phases if phase["phase"] == kind]


def timed(plan: Plan, leg: Leg, made: dict) -> tuple[list[dict], float]:
    """The phases of one process under the harness, of which nothing is recorded, and the watching parent's share of a core meanwhile."""
    looks = []

    def look(event):
        if event.get("phase") in ("epoch", "collection"):
            looks.append((time.perf_counter(), time.process_time()))

    record = measuring.blank(plan, leg, 1, plan.log(leg, "overhead"), attempt=1)
    measuring.work(plan, leg, 1, made, Path(record["log"]), record, say, look)
    if record["status"] != "ok":
        raise Failed(f"{record['status']}: {record['reason']}")
    (start, before), (stop, after) = looks[0], looks[-1]
    # In a run shorter than two looks, nothing was seen.
    return record["phases"], (after - before) / (stop - start) if stop - start > 1 else math.nan


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
    with tempfile.NamedTemporaryFile("w", suffix=".spec") as file, isolation.device_lock(settings.device, say):
        file.write(text)
        file.flush()
        done = subprocess.run([*command, file.name], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the bare loop failed: {done.stderr.strip().splitlines()[-1]}")
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
