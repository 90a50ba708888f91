"""The measuring loop: the only clock in the project.

Every leg, in every language, is driven by `measure`. Each timed region is synchronized on both
sides, so that queued work is paid for where it was ordered.
"""

import time

import numpy as np

from .job import open_array, open_weights, order

WARM_UP_SECONDS = 60
"""After this long, warming up ends early: a step that takes minutes gains nothing from having run twice more. With a time budget
it ends after twice the budget."""


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
    the device), `first_step` (the first batch: compilation), `warm_up` (the next batches, for a minute at most, and two blocks
    of batches where the leg trains in blocks),
    `epoch` (one pass over the samples, or as many steps of it as the budget allows, several times), `evaluation` (the
    test set, or as many whole batches of it). Between epochs, outside the clock, `collection` frees memory where the
    language has a garbage collector that can be called.
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
        placed = {len(x): x_placed, task.batch: leg.place(model, x[: task.batch])}

        def work(positions):
            leg.predict(model, placed[len(positions)])
            return []

    warm_up = order(task.seed, 0, job.samples, task.batch)
    warmed = []
    # A budget needs the time of a warm step.
    for step in range(1 + (max(1, job.warm_up) if job.budget_seconds else job.warm_up)):
        if sum(warmed) > (2 * job.budget_seconds if job.budget_seconds else WARM_UP_SECONDS):
            break
        start = step * task.batch % len(warm_up)
        with clock:
            work(warm_up[start : start + task.batch])
        warmed += [clock.seconds] if step else []
        events.send("phase", phase="warm_up" if step else "first_step", seconds=clock.seconds)
    # Several batches in one compiled program: the first call of it compiles, the second says what a step takes.
    block = steps_per_execution(leg, model) if task.trained else 1
    if block > 1 and len(warm_up) >= block * task.batch:
        for _ in range(2):
            with clock:
                work(warm_up[: block * task.batch])
            events.send("phase", phase="warm_up", seconds=clock.seconds)
        warmed = [clock.seconds / block]
    if task.trained:
        leg.load(model, weights)

    calls = steps_of_calls(job.epochs, job.samples // task.batch, min(warmed or [clock.seconds]), job.budget_seconds)
    if not task.trained:
        for samples in {steps * task.batch for steps in calls} - placed.keys():
            placed[samples] = leg.place(model, x[:samples])
    collected(leg, events)
    for epoch, steps in enumerate(calls):
        positions = order(task.seed, 1 + epoch, job.samples, task.batch)[: steps * task.batch]
        with clock:
            losses = work(positions)
        losses = np.asarray(losses, np.float64).ravel().tolist()
        spent = {"processor_seconds": clock.processor_seconds, **collected(leg, events)}
        events.send("phase", phase="epoch", seconds=clock.seconds, steps=steps, losses=losses, **spent)

    if task.trained:
        evaluate(leg, model, job, clock, events)


def steps_per_execution(leg, model):
    """How many batches of `train` a leg hands to the device as one program."""
    return leg.steps_per_execution(model) if hasattr(leg, "steps_per_execution") else 1


def steps_of_calls(epochs, steps, step_seconds, budget):
    """How many batches each timed call of `train` takes: whole epochs, or fewer batches where a budget does not allow as many.

    Args:
        epochs, steps: the planned calls, and the batches of each.
        step_seconds: what a batch takes once the leg is warm.
        budget: seconds for all calls together; None: no limit.

    Returns:
        A list with the batches of each call: at most `epochs` calls, and two calls of one batch where fewer than two fit.
    """
    fitting = epochs * steps if budget is None else int(min(budget / max(step_seconds, 1e-9), epochs * steps))
    if fitting == epochs * steps:
        return [steps] * epochs
    if fitting < 2:
        return [1] * min(2, epochs * steps)
    calls = min(epochs, fitting)
    return [fitting // calls + (call < fitting % calls) for call in range(calls)]


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


def evaluate(leg, model, job, clock, events):
    """Scores the test set, or as many whole batches of it as fit `scoring_seconds`; reports accuracy, seconds and how many samples.

    `predict` is always given whole batches: the set is padded with its first samples, and the
    padding's scores are thrown away.
    """
    batch = job.task.batch
    y = open_array(job.data, "y_test", job.test_samples)
    x = open_array(job.data, "x_test", job.test_samples)
    first = leg.place(model, x[:batch] if len(x) >= batch else np.resize(x, (batch,) + x.shape[1:]))
    # Where scoring is compiled, that is no part of it.
    leg.predict(model, first)
    if job.scoring_seconds:
        with clock:
            leg.predict(model, first)
        fitting = max(1, int(job.scoring_seconds / max(clock.seconds, 1e-9)))
        x, y = x[: fitting * batch], y[: fitting * batch]
    padding = -len(x) % batch
    if padding:
        x = np.concatenate([x, np.resize(x, (padding,) + x.shape[1:])])
    placed = leg.place(model, x)
    with clock:
        scores = leg.predict(model, placed)
    scores = np.asarray(scores)[: len(y)]
    accuracy = float(np.mean(scores.argmax(axis=1) == y))
    events.send("phase", phase="evaluation", seconds=clock.seconds, samples=len(y), accuracy=accuracy)
