"""The proof: does this leg compute the same network as the float64 reference?

Differences are measured here, in the leg's process, and judged by the harness.
"""

import numpy as np

from .job import change, open_array, open_weights

CHECKPOINTS = (1, 5, 20)
"""Steps after which the logits are compared too."""


def prove(leg, job, events):
    """Makes the comparisons of the job, each in one precision and batch with golden values of its own; one event a quantity.

    Events carry `precision`, `batch`, `quantity`, `step` and `difference`. Differences of logits, features
    and losses are the largest absolute ones, divided by the largest golden magnitude where that is
    above 1; differences of gradient norms are relative to the golden norm of the same parameter, with a
    floor of a millionth of the largest.
    """
    for comparison in job.comparisons:
        fields = {name: comparison[name] for name in ("precision", "batch")}

        def report(quantity, step, difference, fields=fields):
            events.send("difference", quantity=quantity, step=step, difference=difference, **fields)

        task = change(job.task, dropout=False, **fields)
        golden = np.load(comparison["golden"], allow_pickle=False)
        if task.trained:
            trained(leg, job, task, golden, report, comparison["reload"])
        else:
            forward(leg, job, task, golden, report)
    if job.as_shipped:
        as_shipped(leg, job, events)


def forward(leg, job, task, golden, report):
    """Features of the first batch."""
    model = leg.build(task, open_weights(job.weights))
    x = leg.place(model, open_array(job.data, "x", task.batch))
    report("features", 0, distance(leg.predict(model, x), golden["features"]))


def trained(leg, job, task, golden, report, reload):
    """Logits, gradient norms, and the losses of the first steps with dropout off and a fixed order; with `reload` whether `load` starts anew."""
    weights = open_weights(job.weights)
    steps = len(golden["losses"])
    model = leg.build(task, weights)
    report("weights", 0, round_trip(leg.weights(model), weights))

    x = open_array(job.data, "x_train", steps * task.batch)
    y = open_array(job.data, "y_train", steps * task.batch)
    first = leg.place(model, x[: task.batch])
    x, y = leg.place(model, x), leg.place(model, y)
    report("logits", 0, distance(leg.predict(model, first), golden["logits_0"]))

    losses = []
    for positions, stop in stretches(steps, task.batch):
        losses.extend(np.asarray(leg.train(model, x, y, positions), np.float64).ravel())
        report("logits", stop, distance(leg.predict(model, first), golden["logits_%d" % stop]))
        report("loss", stop, distance(losses, golden["losses"][: len(losses)]))

    if reload:
        leg.load(model, weights)
        # Weights and the optimizer's state: what is left of either moves the second first step.
        report("logits after load", 0, distance(leg.predict(model, first), golden["logits_0"]))
        leg.train(model, x, y, np.arange(task.batch))
        report("logits after load", 1, distance(leg.predict(model, first), golden["logits_1"]))

    for name, difference in gradient_norms(leg, job, task, golden, weights).items():
        report("gradient of " + name, 1, difference)


def as_shipped(leg, job, events):
    """How far the network drifts from the reference as a literal port would have it, with the library's own layers and optimizer.

    Events carry `quantity` (logits or features), `step` and `difference`, in the precision asked for. Nobody judges them.
    """
    golden = np.load(job.as_shipped["golden"], allow_pickle=False)
    fields = {name: job.as_shipped[name] for name in ("precision", "batch")}
    task = change(job.task, dropout=False, as_shipped=True, **fields)
    weights = open_weights(job.weights)
    model = leg.build(task, weights)
    if not task.trained:
        x = leg.place(model, open_array(job.data, "x", task.batch))
        difference = distance(leg.predict(model, x), golden["features"])
        events.send("as_shipped", quantity="features", step=0, difference=difference)
        return
    steps = len(golden["losses"])
    x = open_array(job.data, "x_train", steps * task.batch)
    first = leg.place(model, x[: task.batch])
    x, y = leg.place(model, x), leg.place(model, open_array(job.data, "y_train", steps * task.batch))
    for positions, stop in stretches(steps, task.batch):
        leg.train(model, x, y, positions)
        difference = distance(leg.predict(model, first), golden["logits_%d" % stop])
        events.send("as_shipped", quantity="logits", step=stop, difference=difference)


def stretches(steps, batch):
    """(positions, step) from each checkpoint to the next: the samples between them, in their order."""
    positions = np.arange(steps * batch)
    for start, stop in zip((0,) + CHECKPOINTS, CHECKPOINTS):
        if stop <= steps:
            yield positions[start * batch : stop * batch], stop


def gradient_norms(leg, job, task, golden, weights):
    """Relative differences of the norms of the first step's gradients, read through the optimizer.

    The contract has no verb for gradients. One step with settings under which the optimizer moves
    every weight by its gradient gives them in every framework alike:
    SGD with rate 1 moves by g; Adam with rate E = epsilon moves by E g / (|g| + E), which is g (1 - |g| / E).
    """
    readable = {"sgd": {"learning_rate": 1.0}, "adam": {"learning_rate": 1e10, "epsilon": 1e10}}
    task = change(task, **readable[task.optimizer])
    model = leg.build(task, weights)
    x = leg.place(model, open_array(job.data, "x_train", task.batch))
    y = leg.place(model, open_array(job.data, "y_train", task.batch))
    leg.train(model, x, y, np.arange(task.batch))
    after = leg.weights(model)
    norms = {}
    for name, before in weights.items():
        gradient = np.asarray(before, np.float64) - np.asarray(after[name], np.float64)
        norms[name] = float(np.sqrt(np.sum(gradient**2)))
    return relative(norms, golden)


def relative(norms, golden):
    """Relative differences of gradients' norms from the golden ones, by parameter, with a floor of a millionth of the largest."""
    expected = {name: float(golden["gradient " + name]) for name in norms}
    floor = 1e-6 * max(expected.values())
    return {name: abs(norm - expected[name]) / max(expected[name], floor) for name, norm in norms.items()}


def distance(values, expected):
    """Largest absolute difference, divided by the largest expected magnitude where that is above 1."""
    values, expected = np.asarray(values, np.float64), np.asarray(expected, np.float64)
    if values.shape != expected.shape:
        raise ValueError("expected shape %s, the leg gave %s" % (expected.shape, values.shape))
    difference = float(np.max(np.abs(values - expected))) / max(1.0, float(np.max(np.abs(expected))))
    return difference if np.isfinite(difference) else float("inf")


def round_trip(found, weights):
    """Largest difference between canonical weights and those that come back from a fresh model: 0."""
    if sorted(found) != sorted(weights):
        raise ValueError("weights() gave %s instead of %s" % (sorted(found), sorted(weights)))
    return max(distance(found[name], weights[name]) for name in weights)
