"""What a leg does on a GPU only, run on a CPU: it computes what the plain path computes, and it makes nothing wait for the device."""

import json
import subprocess

import numpy as np
import pytest
from conftest import required
from rosetta import config, initial, isolation
from rosetta.frameworks import select

pytestmark = pytest.mark.thorough

OPEN = """
import json, sys
import numpy as np
sys.path[:0] = [{root!r}]
from types import SimpleNamespace
from rosetta.worker.bridges import open_python

task = SimpleNamespace(**json.loads({task!r}))
leg = open_python({file!r}, {folders!r})
rng = np.random.default_rng(0)
weights = dict(np.load({weights!r}))

def built(batches):
    model = leg.build(task, weights)
    shape = {{"cnn": (3, 32, 32), "rnn": (150,), "resnet50": (3, 224, 224)}}[task.name]
    samples = (batches * task.batch, *shape)
    x = rng.integers(0, 30_000, samples) if task.name == "rnn" else rng.random(samples, np.float32)
    return model, leg.place(model, x), leg.place(model, rng.integers(0, 2, len(x))) if task.trained else None
"""

BLOCKS = """
sides = []
for steps in (1, 3):
    sys.modules[{holder!r}].STEPS_PER_EXECUTION["cpu"] = steps
    rng = np.random.default_rng(0)
    model, x, y = built(8)
    assert leg.steps_per_execution(model) == steps
    # Two blocks and two single batches; then a single batch; then a block.
    parts = np.split(np.arange(12 * task.batch) % (8 * task.batch), [8 * task.batch, 9 * task.batch])
    losses = np.concatenate([np.asarray(leg.train(model, x, y, part), np.float64).ravel() for part in parts])
    sides.append((losses, leg.weights(model)))
(losses, plain), (others, blocks) = sides
apart = [float(np.abs(np.asarray(plain[name], np.float64) - blocks[name]).max()) for name in plain]
print(json.dumps([len(losses), len(others), float(np.abs(losses - others).max()), max(apart), float(np.ptp(losses))]))
"""
"""Blocks of three batches against batches one by one: how many losses, and by how much losses and weights differ."""

CHANNELS = """
sides = []
for multiple in (1, 8):
    leg.aligned = lambda channels, task: -(-channels // multiple) * multiple
    rng = np.random.default_rng(0)
    model, x, y = built(4)
    losses = np.asarray(leg.train(model, x, y, np.arange(4 * task.batch)), np.float64).ravel()
    found = leg.weights(model)
    assert {{name: array.shape for name, array in found.items()}} == {{name: array.shape for name, array in weights.items()}}
    sides.append([*losses, *np.ravel(leg.predict(model, x)), *(np.abs(array).sum() for array in found.values())])
print(json.dumps([len(sides[0]), float(np.abs(np.divide(*sides) - 1).max())]))
"""
"""50 and 100 channels against 56 and 104, of which six and four have weights of zero: losses, scores and weights after four steps."""

WAITS = """
import torch
model, x, y = built(3)
leg.train(model, x, y, np.arange(3 * task.batch))
# Another name for the CPU, so that what is meant for the device can be told from what stays on the CPU.
leg.backend.global_state.set_global_attribute("torch_device", "cpu:0")
waits = []

def watch(owner, name, waiting):
    plain = getattr(owner, name)
    def watched(*args, **options):
        if waiting(*args, **options):
            waits.append(name)
        return plain(*args, **options)
    setattr(owner, name, watched)

for name in ("as_tensor", "tensor"):  # a number or an array becomes a tensor of the device: a copy, which waits
    watch(torch, name, lambda value, *_, **options: not torch.is_tensor(value) and options.get("device") == "cpu:0")
for name in ("item", "cpu", "numpy", "tolist", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
    watch(torch.Tensor, name, lambda *_, **__: True)
batches = leg.batches(model, np.arange(3 * task.batch))
before = len(waits)
with leg.backend.training(model) as step:
    for batch in batches:
        step(x, y, batch)
print(json.dumps([before, waits[before:]]))
"""
"""Calls that would wait for a GPU: in putting the positions of three steps there, and in the steps."""

REPLAY = """
model, x, _ = built(2)
plain = leg.predict(model, x)
leg.bind(model)
print(json.dumps([float(np.abs(plain - leg.predict(model, x)).max()), float(np.abs(plain[: task.batch] - plain[task.batch :]).max())]))
"""
"""Through values of one place in memory, as a CUDA graph wants them: how far the features are from the others, and two batches from each other."""

PIECES = """
import recurrence
sides = []
for tokens in (1, 3):
    recurrence.TOKENS["cpu"], recurrence.LENGTH = tokens, 6
    rng = np.random.default_rng(0)
    model, x, y = built(4)
    x = leg.place(model, x.numpy()[:, :6])
    sides.append([*leg.train(model, x, y, np.arange(4 * task.batch)), *np.ravel(leg.predict(model, x))])
print(json.dumps([len(sides[0]), float(np.abs(np.subtract(*sides)).max())]))
"""
"""Reviews of six tokens, in pieces of one token and of three."""


@pytest.fixture
def answer(environment, tmp_path):
    """Gives what a piece of code prints as JSON in a leg's environment, where the leg is open as `leg`."""

    def ask(name, code, **fields):
        (leg,) = select([name])
        made = environment(leg.framework.environment)
        if made["status"] != "ready":
            assert not required(leg.framework.environment), made["reason"]
            pytest.skip(made["reason"])
        np.savez(tmp_path / "weights.npz", **initial.draw(leg.task))
        settings = {"batch": 2, "precision": "fp32", "device": "cpu", "threads": 1}
        text = (OPEN + code).format(
            root=str(config.ROOT / "python"),
            task=json.dumps({**leg.for_worker(**settings), "dropout": False}),
            file=str(leg.file),
            folders=leg.framework.shared_folders,
            weights=str(tmp_path / "weights.npz"),
            **fields,
        )
        environ = isolation.variables(1, "cpu", {**made["variables"], **leg.framework.variables_for(1)})
        done = subprocess.run([made["python"], "-c", text], env=environ, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return ask


@pytest.mark.parametrize("task", ["cnn", "rnn"])
@pytest.mark.parametrize(
    ("name", "holder"),
    [("jax", "setup"), ("keras-jax", "on_jax"), ("keras-tensorflow", "on_tensorflow"), ("tensorflow", "setup")],
)
def test_a_block_of_batches_computes_what_single_batches_do(name, holder, task, answer):
    single, block, losses, weights, spread = answer(f"python/{name}/{task}", BLOCKS, holder=holder)
    assert single == block == 12
    assert max(losses, weights) < 1e-5 < spread


@pytest.mark.parametrize("name", ["jax", "pytorch"])
def test_channels_for_tensor_cores_leave_the_network_as_it_is(name, answer):
    values, apart = answer(f"python/{name}/cnn", CHANNELS)
    assert values == 4 + 4 * 2 * 10 + 12
    assert apart < 1e-4


@pytest.mark.parametrize("task", ["cnn", "rnn"])
def test_no_step_of_keras_on_pytorch_waits_for_the_device(task, answer):
    positions, steps = answer(f"python/keras-torch/{task}", WAITS)
    assert positions >= 1  # the test sees a copy where there is one
    assert steps == []


def test_a_graph_of_fixed_memory_gives_the_features_of_each_batch(answer):
    apart, batches = answer("python/onnxruntime/resnet50", REPLAY)
    assert apart < 1e-5 < batches


def test_pieces_of_several_tokens_compute_what_single_tokens_do(answer):
    values, apart = answer("python/tinygrad/rnn", PIECES)
    assert values == 4 + 4 * 2 * 2
    assert apart < 1e-5
