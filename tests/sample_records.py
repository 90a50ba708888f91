"""Leg records as the harness writes them, for tests of what reads them: nine legs of five frameworks, faults on demand."""

import copy
import math
import random

MACHINE = {
    "processor": "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz",
    "cores": 2,
    "threads": 2,
    "clock_mhz": 2793,
    "memory_gib": 7.8,
    "system": "Debian GNU/Linux 12 (bookworm), Linux 6.1.0",
    "architecture": "x86_64",
    "gpus": [],
}
WORK = {
    "cnn": {
        "batch": 64,
        "samples": 640,
        "epochs": 3,
        "test_samples": 640,
        "warm_up": 3,
        "full_batch": 64,
        "full_samples": 50000,
        "full_test_samples": 10000,
        "full_epochs": 10,
    },
    "rnn": {
        "batch": 64,
        "samples": 1280,
        "epochs": 3,
        "test_samples": 1280,
        "warm_up": 3,
        "full_batch": 64,
        "full_samples": 25000,
        "full_test_samples": 25000,
        "full_epochs": 3,
    },
    "resnet50": {
        "batch": 32,
        "samples": 64,
        "epochs": 3,
        "test_samples": 0,
        "warm_up": 3,
        "full_batch": 32,
        "full_samples": 1280,
        "full_test_samples": 0,
        "full_epochs": 1,
    },
}
DATA = {
    "cnn": {
        "source": "archive",
        "statement": "CIFAR-10 from cifar-10-binary.tar.gz, checksum as published",
        "sha256": "c4" * 32,
    },
    "rnn": {
        "source": "archive",
        "statement": "IMDB reviews from aclImdb_v1.tar.gz, checksum as published",
        "sha256": "c3" * 32,
    },
    "resnet50": {"source": "seeded", "statement": "Seeded pictures, as the task prescribes", "sha256": "5e" * 32},
}
SYNTHETIC = {
    "source": "synthetic",
    "statement": "Synthetic arrays, not CIFAR-10: neither an archive nor a connection",
    "sha256": "57" * 32,
}
BRIDGES = {"python": "python", "julia": "julia", "r": "rpy2"}
VERSIONS = {
    "python/numpy": {"python": "3.11.2", "numpy": "2.4.6", "blas": "OpenBLAS 0.3.30"},
    "python/pytorch": {"python": "3.11.2", "torch": "2.13.0+cpu"},
    "julia/base": {"python": "3.11.2", "julia": "1.5.3 -O1", "blas": "OpenBLAS 0.3.9"},
    "r/base": {"python": "3.11.2", "r": "4.2.2", "rpy2": "3.6.6", "blas": "libopenblasp-r0.3.21"},
}
TITLES = {
    "python/numpy": "NumPy, no framework",
    "python/pytorch": "PyTorch",
    "julia/base": "Julia, standard library",
    "r/base": "R, base only",
}
EPOCH_SECONDS = {
    "python/numpy/cnn": 5.9,
    "python/numpy/rnn": 1.52,
    "python/pytorch/cnn": 1.44,
    "python/pytorch/rnn": 1.5,
    "python/pytorch/resnet50": 0.71,
    "julia/base/cnn": 9.4,
    "julia/base/rnn": 2.1,
    "r/base/cnn": 12.2,
    "r/base/rnn": 5.1,
}
"""Seconds of an epoch of the quick profile, about what a machine with two cores needs."""


def run(leg: str, kind: str, number: int, status: str = "ok", reason: str = "", **changes) -> dict:
    """A run record without phases and differences; `changes` replace any of its fields."""
    language, framework, task = leg.split("/")
    record = {
        "record": 1,
        "kind": kind,
        "leg": leg,
        "language": language,
        "framework": framework,
        "task": task,
        "title": TITLES.get(f"{language}/{framework}", framework.capitalize()),
        "round": number,
        "profile": "quick",
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "computes": "fp64" if language == "r" else "fp32",
        "bridge": BRIDGES.get(language, language),
        "status": status,
        "reason": reason,
        "work": dict(WORK.get(task, WORK["cnn"])),
        "data": dict(DATA.get(task, DATA["cnn"])),
        "phases": [],
        "differences": [],
        "outer_seconds": 0.4,
        "peak_memory_mb": None,
        "utilisation": None,
        "warnings": [],
        "versions": dict(VERSIONS.get(f"{language}/{framework}", {"python": "3.11.2"})),
        "machine": dict(MACHINE),
        "provenance": {
            "date": f"2026-11-23T14:{2 + number:02d}:07+00:00",
            "commit": "4f0c2d9a7be1386655aa20c1d3c4fe0b9a1d77e2",
            "dirty": False,
            "config_sha256": "ab" * 32,
            "lock_sha256": "cd" * 32,
            "command": f"rosetta run {leg} --config profile=quick",
        },
        "log": f"reports/logs/quick/cpu-fp32/{leg}-{number}.log",
    }
    return {**record, **changes}


def differences(leg: str, passed: bool = True) -> list[dict]:
    """The differences of a proof: in float64 (where the library has it) and in float32, or in double alone for R."""
    language, _, task = leg.split("/")
    chance = random.Random(leg)
    found = []
    bounds = {"fp64": 1e-9} if language == "r" else {"fp64": 1e-9, "fp32": 2e-2 if task == "cnn" else 1e-4}
    for precision, bound in bounds.items():
        scale = 1e-15 if precision == "fp64" else 2e-7

        def add(quantity, step, difference, tolerance, precision=precision):
            fine = difference <= tolerance
            found.append(
                dict(
                    precision=precision,
                    quantity=quantity,
                    step=step,
                    difference=difference,
                    tolerance=tolerance,
                    passed=fine,
                )
            )

        if task == "resnet50":
            add("features", 0, scale * chance.uniform(1, 3), bound)
            continue
        add("weights", 0, 0.0, 0.0)
        add("logits", 0, scale * chance.uniform(0.5, 2), min(bound, 1e-5))
        for step in (1, 5, 20):
            growth = step**2 if task == "cnn" else step
            add("logits", step, scale * growth * chance.uniform(1, 4) * (1 if passed else 1e5), bound)
            add("loss", step, scale * growth * chance.uniform(0.5, 2), bound)
        for name in ("conv1.weight", "dense2.bias") if task == "cnn" else ("embedding.weight", "gru.bias_hh"):
            add(f"gradient of {name}", 1, scale * chance.uniform(1, 9), 1e-7 if precision == "fp64" else 1e-3)
    return found


def phases(leg: str, number: int, seconds: float) -> list[dict]:
    """The phases of a round: epochs around `seconds`, a loss that falls, an accuracy that rises with it."""
    language, _, task = leg.split("/")
    chance = random.Random(f"{leg} {number}")
    work = WORK.get(task, WORK["cnn"])
    steps = work["samples"] // work["batch"]
    step = seconds / steps
    first = {"julia": 9.0, "python": 0.05, "r": 0.3}.get(language, 0.1) + step
    drift = chance.uniform(0.97, 1.06)
    found = [
        {"phase": "import", "seconds": chance.uniform(0.3, 1.9)},
        {"phase": "build", "seconds": chance.uniform(0.01, 0.08)},
        {"phase": "data", "seconds": chance.uniform(0.01, 0.3)},
        {"phase": "first_step", "seconds": first * drift},
        *({"phase": "warm_up", "seconds": step * chance.uniform(0.95, 1.3)} for _ in range(work["warm_up"])),
    ]
    start, end = (2.303, 1.95) if task == "cnn" else (0.693, 0.51)
    for epoch in range(work["epochs"]):
        phase = {"phase": "epoch", "seconds": seconds * drift * chance.uniform(0.985, 1.03)}
        if task != "resnet50":
            positions = [(epoch * steps + position) / (work["epochs"] * steps) for position in range(steps)]
            phase["losses"] = [end + (start - end) * math.exp(-2.2 * x) + chance.gauss(0, 0.015) for x in positions]
        found.append(phase)
    if task != "resnet50":
        accuracy = chance.uniform(0.27, 0.30) if task == "cnn" else chance.uniform(0.71, 0.74)
        found.append({"phase": "evaluation", "seconds": seconds * 0.4, "accuracy": accuracy})
    return found


def good_round(leg: str, number: int, seconds: float | None = None, **changes) -> dict:
    found = phases(leg, number, EPOCH_SECONDS.get(leg, 1.0) if seconds is None else seconds)
    return run(
        leg,
        "round",
        number,
        phases=found,
        outer_seconds=sum(phase["seconds"] for phase in found) + 0.6,
        peak_memory_mb=random.Random(f"{leg} memory {number}").uniform(400, 1400),
        other_load_percent=random.Random(f"{leg} load {number}").uniform(0, 4),
        **{"utilisation": 0.31, "ceiling_gflops": 118.0, "ceiling": "a matrix product in NumPy 2.4.6", **changes},
    )


def gathered(proof: dict, rounds: list[dict]) -> dict:
    """The leg's record, by the harness's own rule."""
    from rosetta.records import check, gather

    return check(gather(proof, rounds), proof["leg"])


def good(leg: str, rounds: int = 3, seconds: float | None = None, **changes) -> dict:
    """A leg that ran and passed; `changes` go into every one of its runs."""
    proof = run(leg, "proof", 0, differences=differences(leg), **changes)
    return gathered(proof, [good_round(leg, number, seconds, **changes) for number in range(1, rounds + 1)])


def shortened(leg: dict, steps: int, samples: int | None = None, calls: int | None = None) -> dict:
    """The same leg under a time budget: calls of so many steps, each as long as before, and a part of the test set."""
    leg = copy.deepcopy(leg)
    for run in leg["rounds"]:
        run.update(budget_seconds=5, scoring_seconds=2)
        whole = run["work"]["samples"] // run["work"]["batch"]
        epochs = [phase for phase in run["phases"] if phase["phase"] == "epoch"]
        run["phases"] = [phase for phase in run["phases"] if phase not in epochs[calls:]] if calls else run["phases"]
        for phase in run["phases"]:
            if phase["phase"] == "epoch":
                phase.update(steps=steps, seconds=phase["seconds"] * steps / whole)
                if "losses" in phase:
                    phase["losses"] = phase["losses"][:steps]
            elif phase["phase"] == "evaluation":
                phase["samples"] = samples or run["work"]["test_samples"]
    return gathered(leg["proof"], leg["rounds"])


def unavailable(leg: str, reason: str) -> dict:
    nothing = {"versions": {}, "bridge": "none", "data": {"source": "none", "statement": "no data", "sha256": ""}}
    proof = run(leg, "proof", 0, "unavailable", reason, **nothing)
    return gathered(proof, [run(leg, "round", 1, "unavailable", reason, **nothing)])


def mismatch(leg: str) -> dict:
    """A leg that was timed, but whose logits run away from the golden ones."""
    found = differences(leg, passed=False)
    worst = max((item for item in found if not item["passed"]), key=lambda item: item["difference"])
    size = f"{worst['difference']:.1e} instead of at most {worst['tolerance']:.0e}"
    reason = f"{worst['quantity']} at step {worst['step']} in {worst['precision']}: {size}"
    proof = run(leg, "proof", 0, "mismatch", reason, differences=found)
    return gathered(proof, [good_round(leg, number) for number in (1, 2, 3)])


def variant(leg: str, reason: str) -> dict:
    return gathered(run(leg, "proof", 0, "variant", reason), [good_round(leg, number) for number in (1, 2, 3)])


def broken(leg: str, status: str, reason: str) -> dict:
    """A leg that passed the proof and whose rounds all ended badly."""
    proof = run(leg, "proof", 0, differences=differences(leg))
    return gathered(proof, [run(leg, "round", number, status, reason, outer_seconds=900.0) for number in (1, 2, 3)])


def nine() -> list[dict]:
    """The nine legs of the spine, all well."""
    return [good(leg) for leg in EPOCH_SECONDS]


def mixed() -> list[dict]:
    """The nine legs with faults among them, and legs of frameworks that nobody knows today."""
    legs = {leg["leg"]: leg for leg in nine()}
    first, *others = (good_round("julia/base/rnn", number) for number in (1, 2, 3))
    killed = run("julia/base/rnn", "round", 3, "failed", "the process was killed by signal 9")
    legs["julia/base/rnn"] = gathered(
        run("julia/base/rnn", "proof", 0, differences=differences("julia/base/rnn")), [first, others[0], killed]
    )
    legs["r/base/cnn"] = broken(
        "r/base/cnn", "timeout", "stopped after 900 s, the limit of profile quick; raise timeout_seconds"
    )
    legs["python/pytorch/rnn"] = mismatch("python/pytorch/rnn")
    others = [
        unavailable(
            "julia/flux/cnn",
            "Flux 0.16 needs Julia 1.10 or newer, found 1.5.3; install it with juliaup <https://julialang.org/downloads> & run again",
        ),
        variant(
            "python/literal-port/rnn",
            "Adam's epsilon stands before the bias correction: logits of step 20 move by 1.9e-4",
        ),
        broken("python/tinygrad/cnn", "out-of-memory", "MemoryError: needed 9.1 GB, the machine has 7.8"),
        broken("python/tinygrad/rnn", "invalid", "the epochs add up to 31.0 s, the whole process took 12.4 s"),
        broken(
            "lua/torch7/cnn", "failed", "RuntimeError: <script>alert('x')</script> & a very " + "long" * 60 + " word"
        ),
    ]
    return [*legs.values(), *others]
