"""The bare loop: a leg's network trained without the harness. Runs in the leg's environment, called by overhead.py.

    python bare.py SPEC.json        prints the seconds of each epoch as JSON

No worker, no events, no memory maps, no watching from outside: arrays are read, the leg's file is imported, and a plain loop calls it.
"""

import importlib.util
import json
import os
import sys
import time
from types import SimpleNamespace

import numpy as np


def main(path):
    with open(path) as file:
        spec = SimpleNamespace(**json.load(file))
    task = SimpleNamespace(**spec.task)
    sys.path[:0] = [os.path.dirname(spec.file), *spec.folders]
    found = importlib.util.spec_from_file_location("leg", spec.file)
    leg = importlib.util.module_from_spec(found)
    sys.modules["leg"] = leg
    found.loader.exec_module(leg)

    weights = {name: np.load(file) for name, file in spec.weights.items()}
    x = np.load(spec.x, mmap_mode="r")[: spec.samples].copy()
    model = leg.build(task, weights)
    x = leg.place(model, x)
    if task.trained:
        y = leg.place(model, np.load(spec.y)[: spec.samples])
        order = np.random.RandomState(0).permutation(spec.samples)
        for _ in range(4):
            leg.train(model, x, y, order[: task.batch])
    else:
        leg.predict(model, x)
    arrays = (x, y, order) if task.trained else (x,)
    print(json.dumps([epoch(leg, model, *arrays) for _ in range(spec.epochs)]))


def epoch(leg, model, *arrays):
    """Seconds of one pass over x, y and an order, or over x alone where nothing is trained."""
    leg.synchronize(model)
    start = time.perf_counter()
    if len(arrays) > 1:
        leg.train(model, *arrays)
    else:
        leg.predict(model, *arrays)
    leg.synchronize(model)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1])
