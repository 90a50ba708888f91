"""The forerunner's published figures: rows of published_results.csv, each with its source. Shown beside ours, never ranked with them."""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

TASKS = {"cnn": "cnn_cifar10_train", "rnn": "gru_imdb_train", "resnet50": "resnet50_features_infer"}


@dataclass(frozen=True)
class Figure:
    """Seconds of one framework on one device, for `work` (10 epochs x 50000 images), from `source` (repository@commit:file#line)."""

    device: str
    seconds: float
    work: str
    source: str
    notes: str


@functools.cache
def table() -> tuple[dict, ...]:
    with open(Path(__file__).with_name("published_results.csv"), newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def figures(name: str, task: str) -> list[Figure]:
    """The figures of `name` in a task: FRAMEWORK/API as the table has them (`Keras/Theano backend`, `PyTorch/`). Empty where there are none."""
    return list(every(task).get(name, {}).values())


SAMPLES = {"cnn": 10 * 50_000, "rnn": 3 * 25_000, "resnet50": 1000}
"""Samples of the published jobs, in the table's own words `work`."""


def every(task: str) -> dict[str, dict[str, Figure]]:
    """{FRAMEWORK/API: {device: figure}} of a task, in the table's order."""
    found = {}
    for row in table():
        if row["task"] == TASKS[task]:
            figure = Figure(row["device"], float(row["seconds"]), row["work"], row["source"], row["notes"])
            found.setdefault(f"{row['framework']}/{row['api']}", {})[figure.device] = figure
    return found


def sentence(found: list[Figure]) -> str:
    """The figures in words; empty for none."""
    if not found:
        return ""
    times = " and ".join(f"{figure.seconds:g} s on a {figure.device}" for figure in found)
    return f"Published in 2018 for {found[0].work}: {times} ({found[0].source})."
