"""JAX with Flax NNX and Optax: the CNN on CIFAR-10."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from setup import aligned, blocks, in_turn, setup, steps_per_execution, synchronize, widened  # noqa: F401

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")


# Setup: Flax is channels last on every device, so pictures are NHWC, kernels HWIO, dense weights [in, out],
# and `flatten` gives H, W, C. 'SAME', the default, is padding 1 for a 3x3 kernel of stride 1.
class CNN(nnx.Module):
    def __init__(self, dropout, rngs, few=50, many=100, **kind):
        self.conv1 = nnx.Conv(3, few, (3, 3), rngs=rngs, **kind)
        self.conv2 = nnx.Conv(few, few, (3, 3), rngs=rngs, **kind)
        self.conv3 = nnx.Conv(few, many, (3, 3), rngs=rngs, **kind)
        self.conv4 = nnx.Conv(many, many, (3, 3), rngs=rngs, **kind)
        self.dense1 = nnx.Linear(8 * 8 * many, 512, rngs=rngs, **kind)
        self.dense2 = nnx.Linear(512, 10, rngs=rngs, **kind)
        self.dropout_conv = nnx.Dropout(0.25 if dropout else 0, rngs=rngs)
        self.dropout_dense = nnx.Dropout(0.5 if dropout else 0, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv1(x))
        x = nnx.relu(nnx.max_pool(self.conv2(x), (2, 2), (2, 2)))
        x = self.dropout_conv(x)
        x = nnx.relu(self.conv3(x))
        x = nnx.relu(nnx.max_pool(self.conv4(x), (2, 2), (2, 2)))
        x = self.dropout_conv(x)
        x = nnx.relu(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(self.dropout_dense(x)).astype(self.dense2.param_dtype)


# Build: modules are split into a static graph and a tree of arrays; only the tree goes through the compiled step.
def build(task, weights):
    model = setup(task)
    model.rule = optax.sgd(task.learning_rate, task.momentum)
    load(model, weights)
    return model


# Load
def load(model, weights):
    task = model.task
    few, many = aligned(50, task), aligned(100, task)
    network = CNN(task.dropout, nnx.Rngs(task.seed), few, many, **model.kind)
    for name in CONVOLUTIONS:
        layer = getattr(network, name)
        kernel = widened(weights[name + ".weight"].transpose(2, 3, 1, 0), layer.kernel.shape)
        layer.kernel[...] = jnp.asarray(kernel, model.weights)
    dense1 = weights["dense1.weight"].reshape(512, 100, 8, 8).transpose(2, 3, 1, 0)
    dense1 = widened(dense1, (8, 8, many, 512)).reshape(-1, 512)
    network.dense1.kernel[...] = jnp.asarray(dense1, model.weights)
    network.dense2.kernel[...] = jnp.asarray(weights["dense2.weight"].T, model.weights)
    for name in (*CONVOLUTIONS, "dense1", "dense2"):
        bias = getattr(network, name).bias
        bias[...] = jnp.asarray(widened(weights[name + ".bias"], bias.shape), model.weights)
    # The same rule gives an equal graph: what was compiled stays valid.
    model.graph, model.state = nnx.split((network, nnx.Optimizer(network, model.rule, wrt=nnx.Param)))
    model.shapes = {name: array.shape for name, array in weights.items()}


# Place
def place(model, array):
    own = jnp.asarray(array.transpose(0, 2, 3, 1), model.weights) if array.ndim == 4 else jnp.asarray(array)
    return jax.block_until_ready(own)


# Train: `donate` lets the new weights take the memory of the old.
@partial(jax.jit, static_argnames="graph", donate_argnames="state")
def steps(graph, state, x, y, batches):
    """One step for each row of `batches`, in one program."""

    def step(state, batch):
        network, optimizer = nnx.merge(graph, state)

        def loss(network):
            return optax.softmax_cross_entropy_with_integer_labels(network(x[batch]), y[batch]).mean()

        value, gradients = nnx.value_and_grad(loss)(network)
        optimizer.update(network, gradients)
        return nnx.state((network, optimizer)), value

    return in_turn(step, state, batches)


def train(model, x, y, order):
    losses = []
    for batches in blocks(model, order):
        model.state, values = steps(model.graph, model.state, x, y, batches)
        losses.append(values)
    return np.concatenate(losses)  # read only when every batch has been queued


# Predict
@partial(jax.jit, static_argnames="graph")
def scores(graph, state, x):
    network, _ = nnx.merge(graph, state)
    network.eval()
    return network(x)


def predict(model, x):
    size = model.task.batch
    parts = [scores(model.graph, model.state, x[start : start + size]) for start in range(0, len(x), size)]
    return np.concatenate(parts)  # read only when every batch has been queued


# Weights
def weights(model):
    network, _ = nnx.merge(model.graph, model.state)
    found = {}
    for name in CONVOLUTIONS:
        found[name + ".weight"] = np.asarray(getattr(network, name).kernel[...]).transpose(3, 2, 0, 1)
    dense1 = np.asarray(network.dense1.kernel[...]).reshape(8, 8, -1, 512)
    found["dense1.weight"] = dense1[:, :, :100].transpose(3, 2, 0, 1).reshape(512, 6400)
    found["dense2.weight"] = np.asarray(network.dense2.kernel[...]).T
    for name in (*CONVOLUTIONS, "dense1", "dense2"):
        found[name + ".bias"] = np.asarray(getattr(network, name).bias[...])
    return {name: array[tuple(map(slice, model.shapes[name]))] for name, array in found.items()}
