"""The legs of Flux, Lux and Knet beside stand-ins of these libraries (tests/stand_ins), in whatever plain Julia is at hand.

What this covers: that every file loads; that weights go into the library's layout and come back unchanged; that kernels are turned where
the library convolves truly; gate order, flattening, ids, padding, batch norms; that a pass over batches gives a loss for each. What it cannot
cover is the libraries themselves: their gradients, optimizers and speed. With the libraries there, the pipeline's own proof does that.
"""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from rosetta import initial, julia_toolchain, reference
from rosetta.frameworks import discover
from rosetta.worker import julia
from rosetta.worker.job import change

STAND_INS = julia_toolchain.ROOT / "tests" / "stand_ins"
LEGS = [leg for leg in discover() if leg.framework.language == "julia" and leg.framework.name != "base"]
TRAINED = [leg for leg in LEGS if leg.task.trained]


def named(leg):
    return leg.name


@pytest.fixture(scope="module")
def beside_stand_ins(toolchain):
    """The plain julia, which finds the stand-ins where packages would be."""
    variables = {**toolchain["environment"], "JULIA_LOAD_PATH": os.pathsep.join([str(STAND_INS), "@stdlib"])}
    return {**toolchain, "environment": variables}


def settings(leg, **fields):
    task = leg.for_worker(batch=2, precision="fp64", device="cpu", threads=2)
    return change(SimpleNamespace(**task), **{"dropout": False, **fields})


@pytest.fixture(scope="module")
def opened(beside_stand_ins):
    """Opens a leg beside the stand-ins, once for all tests; closes it in the end."""
    legs = {}

    def start(leg):
        if leg.name in legs:
            return legs[leg.name]
        job = SimpleNamespace(
            root=str(julia_toolchain.ROOT),
            file=str(leg.file),
            toolchain=beside_stand_ins,
            task=settings(leg),
            libraries=[],
        )
        return legs.setdefault(leg.name, julia.open_julia_process(job))

    yield start
    for leg in legs.values():
        leg.close()


def samples(task, count):
    random = np.random.default_rng(3)
    if task.name == "rnn":
        return random.integers(0, 30_000, (count, *task.shape)), random.integers(0, task.classes, count)
    return random.random((count, *task.shape), np.float32), random.integers(0, max(task.classes, 1), count)


def weights_of(task):
    """Like those of the task, but with biases that are not 0: a swapped one would not be seen otherwise."""
    random = np.random.default_rng(5)
    return {
        name: array + random.standard_normal(array.shape).astype(np.float32) / 8
        if name.split(".")[-1].startswith("bias")
        else array
        for name, array in initial.draw(task).items()
    }


@pytest.mark.parametrize("leg", [leg for leg in TRAINED if not leg.framework.variant], ids=named)
def test_weights_arrive_in_the_library_and_come_back(leg, opened):
    there, weights = opened(leg), weights_of(leg.task)
    for precision in ("fp32", "fp64"):
        model = there.build(settings(leg, precision=precision), initial.draw(leg.task))
        there.load(model, weights)
        back = there.weights(model)
        assert sorted(back) == sorted(weights)
        for name, array in weights.items():
            assert back[name].shape == array.shape, name
            assert back[name].dtype == (np.float32 if precision == "fp32" else np.float64)
            assert np.array_equal(back[name], array), name


@pytest.mark.parametrize("leg", [leg for leg in LEGS if not leg.framework.variant], ids=named)
def test_the_network_is_the_reference_s(leg, opened):
    there, weights = opened(leg), weights_of(leg.task)
    x, y = samples(leg.task, 4 if leg.task.trained else 1)
    model = there.build(settings(leg, batch=2 if leg.task.trained else 1), weights)
    doubles = {name: array.astype(np.float64) for name, array in weights.items()}
    network = {"cnn": reference.cnn, "rnn": reference.rnn, "resnet50": reference.resnet50}[leg.task.name]
    wanted = network(doubles, x if leg.task.name == "rnn" else x.astype(np.float64))
    wanted = wanted[0] if leg.task.trained else wanted
    placed = there.place(model, x)
    # The stand-ins of Flux and Lux have their libraries' float32 epsilon in batch norms.
    scale = max(1.0, float(np.abs(wanted).max()))
    assert np.abs(there.predict(model, placed) - wanted).max() / scale < (1e-10 if leg.task.trained else 1e-6)
    if not leg.task.trained:
        return
    losses = there.train(model, placed, there.place(model, y), np.array([2, 0, 3, 1]))
    expected = [reference.cross_entropy(wanted[rows], y[rows])[0] for rows in ([2, 0], [3, 1])]
    assert np.abs(losses - expected).max() < 1e-10
    there.synchronize(model)


@pytest.mark.parametrize("leg", [leg for leg in TRAINED if leg.task.name == "cnn"], ids=named)
def test_dropout_is_on_in_training_alone(leg, opened):
    there, weights = opened(leg), initial.draw(leg.task)
    x, y = samples(leg.task, 2)
    losses = []
    for dropout in (False, True):
        model = there.build(settings(leg, dropout=dropout), weights)
        placed = there.place(model, x)
        scores = there.predict(model, placed)
        assert np.array_equal(scores, there.predict(model, placed))
        losses.append(there.train(model, placed, there.place(model, y), np.arange(2))[0])
    assert losses[0] != losses[1]


def test_the_library_s_gru_layer_is_the_reference_while_the_second_bias_is_0(opened):
    """Why the row flux-gru is a variant: with that bias, the two differ."""
    leg = next(leg for leg in LEGS if leg.framework.name == "flux-gru")
    there, weights = opened(leg), weights_of(leg.task)
    x, _ = samples(leg.task, 2)
    without = {**weights, "gru.bias_hh": np.zeros(300, np.float32)}
    for given, same in ((without, True), (weights, False)):
        model = there.build(settings(leg), given)
        wanted = reference.rnn({name: array.astype(np.float64) for name, array in given.items()}, x)[0]
        difference = np.abs(there.predict(model, there.place(model, x)) - wanted).max()
        assert (difference < 1e-10) == same


GRADIENT = """
include(ARGS[1])
x = Float32[0.5 0.25; 0.49999 0.5]
x = reshape(repeat(x, 2, 2), 4, 4, 1, 1)
x[3, 3, 1, 1] = 0.1
y = maxima(x)
@assert y == fill(0.5f0, 2, 2, 1, 1)
dy = reshape(Float32[1 2; 3 4], 2, 2, 1, 1)
dx = maxima_gradient(x, y, dy)
expected = zeros(Float32, 4, 4, 1, 1)
expected[1, 1], expected[3, 1], expected[1, 3], expected[4, 4] = 1, 3, 2, 4
@assert dx == expected
println("checked")
"""


def test_a_pooling_s_gradient_goes_to_the_maximum_not_to_what_is_near_it(toolchain, tmp_path):
    """0.49999 is ≈ 0.5 for NNlib; of equal maxima the first one, in the order of memory, has it all, as in the reference."""
    path = julia_toolchain.ROOT / "julia" / "frameworks" / "nnlib" / "maxima.jl"
    command = [toolchain["julia"], *toolchain["arguments"], "--startup-file=no", "-e", GRADIENT, str(path)]
    code, output = julia_toolchain.Log(tmp_path / "log").run(command, 120, toolchain["environment"])
    assert (code, output.strip()) == (0, "checked"), (tmp_path / "log").read_text()
