"""The measuring loop: the only clock in the project.

Every leg, in every language, is driven by `measure`. Each timed region is synchronized on both
sides, so that queued work is paid for where it was ordered.
"""

import time

import numpy as np

from .job import open_array, open_weights, order

WARM_UP_SECONDS = 60
"""After this long, warming up ends early: a step that takes minutes gains nothing from having run twice more."""


class Clock:
    """Seconds of one region, with the leg's device drained before and after, and the processor seconds of all its threads."""

    def __init__(self, synchronize, processor_seconds=time.process_time):
        self._synchronize, self._processor_seconds = synchronize, processor_seconds

    def __enter__(self):
        self._synchronize()
        self._processor = self._processor_seconds()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *failure):
        if failure[0] is None:
            self._synchronize()
            self.seconds = time.perf_counter() - self._start
            self.processor_seconds = self._processor_seconds() - self._processor


def measure(leg, job, events):
    """Times one process's run of a leg and reports every raw sample as an event.

    Phases, in seconds: `build` (model and optimizer), `data` (arrays handed to the language and
    the device), `first_step` (the first batch: compilation), `warm_up` (the next batches, for a minute at most),
    `epoch` (one pass over the samples, several times), `evaluation` (the whole test set). Between epochs, outside the
    clock, `collection` frees memory where the language has a garbage collector that can be called.
    """
    task = job.task
    weights = open_weights(job.weights)
    with Clock(lambda: None) as clock:
        model = leg.build(task, weights)
        leg.synchronize(model)
    events.send("phase", phase="build", seconds=clock.seconds)
    clock = Clock(lambda: leg.synchronize(model), getattr(leg, "processor_seconds", time.process_time))

    x = open_array(job.data, "x_train" if task.trained else "x", job.samples)
    with clock:
        x_placed = leg.place(model, x)
        y_placed = leg.place(model, open_array(job.data, "y_train", job.samples)) if task.trained else None
    events.send("phase", phase="data", seconds=clock.seconds)

    if task.trained:

        def work(positions):
            return leg.train(model, x_placed, y_placed, positions)
    else:
        first = leg.place(model, x[: task.batch])

        def work(positions):
            leg.predict(model, first if len(positions) == task.batch else x_placed)
            return []

    warm_up = order(task.seed, 0, job.samples, task.batch)
    warmed = 0.0
    for step in range(1 + job.warm_up):
        if warmed > WARM_UP_SECONDS:
            break
        start = step * task.batch % len(warm_up)
        with clock:
            work(warm_up[start : start + task.batch])
        warmed += clock.seconds if step else 0
        events.send("phase", phase="warm_up" if step else "first_step", seconds=clock.seconds)
    if task.trained:
        leg.load(model, weights)

    collected(leg, events)
    for epoch in range(job.epochs):
        positions = order(task.seed, 1 + epoch, job.samples, task.batch)
        with clock:
            losses = work(positions)
        losses = np.asarray(losses, np.float64).ravel().tolist()
        spent = {"processor_seconds": clock.processor_seconds, **collected(leg, events)}
        events.send("phase", phase="epoch", seconds=clock.seconds, losses=losses, **spent)

    if task.trained:
        accuracy, seconds = evaluate(leg, model, job, clock)
        events.send("phase", phase="evaluation", seconds=seconds, accuracy=accuracy)


def collected(leg, events):
    """Calls a leg's garbage collector, where it has one to call: an epoch starts without the last one's leavings, and does not pay for them.

    Returns:
        {"collector_seconds": seconds of the collections since the last call, which the epoch between the calls did pay for}.
    """
    if not hasattr(leg, "collect"):
        return {}
    seconds, within = leg.collect()
    events.send("phase", phase="collection", seconds=seconds)
    return {"collector_seconds": within}


def evaluate(leg, model, job, clock):
    """Accuracy on the test set, and the seconds that its scores took.

    `predict` is always given whole batches: the set is padded with its first samples, and the
    padding's scores are thrown away.
    """
    y = open_array(job.data, "y_test", job.test_samples)
    x = open_array(job.data, "x_test", job.test_samples)
    padding = -len(x) % job.task.batch
    if padding:
        x = np.concatenate([x, np.resize(x, (padding,) + x.shape[1:])])
    placed = leg.place(model, x)
    # Where scoring is compiled, that is no part of it.
    leg.predict(model, leg.place(model, x[: job.task.batch]))
    with clock:
        scores = leg.predict(model, placed)
    scores = np.asarray(scores)[: len(y)]
    return float(np.mean(scores.argmax(axis=1) == y)), clock.seconds
