"""A leg's file around another leg's: the harness drives and times it as any other, and between its epochs the same work is done in a bare loop.

Runs in the leg's environment, named by overhead.py; the leg's own file is `task.alternated`. Both loops share one process and one model, so one
layout of memory: what is left between them is the measuring loop, its clock and the arrays' memory maps. The bare loop runs where the harness lets a
leg collect its garbage, outside the clock, and its seconds come back as those of a `collection`. It reads copies of the arrays, no memory maps.
With `task.alternated_steps` the bare loop takes so many batches only.
"""

import numpy as np
from bare import epoch
from rosetta.worker.bridges import open_python
from rosetta.worker.job import order

copies = []
"""x and, where the task is trained, y, as the leg's `place` gave them."""


def build(task, weights):
    global leg, model, trained, batch, steps
    leg, trained, batch, steps = open_python(task.alternated), task.trained, task.batch, task.alternated_steps
    verbs = ("load", "train", "predict", "weights", "synchronize")
    globals().update((verb, getattr(leg, verb)) for verb in verbs if hasattr(leg, verb))
    model = leg.build(task, weights)
    return model


def place(model, array):
    global samples
    if not copies:
        samples = len(array)
    if len(copies) < 1 + trained:
        short = steps * batch if steps and not trained else None
        copies.append(leg.place(model, np.array(array[:short])))
    return leg.place(model, array)


def collect():
    """Seconds of a bare epoch, in the form of the harness's collections."""
    arrays = (*copies, order(0, 0, samples, batch)[: steps * batch or None]) if trained else copies
    return epoch(leg, model, *arrays), 0.0
