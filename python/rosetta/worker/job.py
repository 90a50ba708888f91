"""What the harness asks of a worker, and how the worker answers.

A job is a JSON file that the harness writes. The worker answers with events, one JSON object
a line, flushed one by one: whatever was measured before a crash or a timeout stays measured.
"""

import json
import os
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np


class Unavailable(Exception):
    """The leg cannot run here. The message says what is missing and what mends it."""


LACK_OF_MEMORY = (
    "out of memory",
    "oom when allocating",
    "unable to allocate",
    "cannot allocate vector",
    "cannot allocate memory block",
    "cannot allocate buffer",
    "memory exhausted",
    "memoryerror",
    "bad_alloc",
)
"""How libraries, R and the C++ below them say that memory did not suffice, in lower case."""


def lacks_memory(message):
    return any(words in message.lower() for words in LACK_OF_MEMORY)


class Events:
    """Appends events to a file, each line complete on disk before the next step begins."""

    def __init__(self, path):
        self._file = open(path, "a")

    def send(self, event, **fields):
        self._file.write(json.dumps(dict(fields, event=event)) + "\n")
        self._file.flush()


def read(path):
    """The job at `path` as a namespace; `job.task` is a namespace too."""
    with open(path) as file:
        job = SimpleNamespace(**json.load(file))
    job.task = SimpleNamespace(**job.task)
    return job


def change(task, **fields):
    """A copy of `task` with some fields replaced."""
    return SimpleNamespace(**dict(vars(task), **fields))


def open_array(folder, name, count=None):
    """The first `count` samples of a shared array, memory-mapped and read-only."""
    return np.load(os.path.join(folder, name + ".npy"), mmap_mode="r")[:count]


def open_weights(folder):
    """Canonical weights {name: float32 array}, memory-mapped, in the order of the network."""
    with open(os.path.join(folder, "manifest.json")) as file:
        names = [entry["name"] for entry in json.load(file)["arrays"]]
    return OrderedDict((name, open_array(folder, name)) for name in names)


def order(seed, epoch, samples, batch):
    """Sample positions of one epoch: a seeded shuffle of `samples`, cut to whole batches.

    Returns:
        int64 [steps * batch]. `RandomState` because its streams are frozen for all versions of NumPy.
    """
    shuffled = np.random.RandomState((seed + epoch) % 2**32).permutation(samples)
    return shuffled[: samples // batch * batch].astype(np.int64)
