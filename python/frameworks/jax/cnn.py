"""JAX with Flax NNX and Optax: the CNN on CIFAR-10."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from setup import setup, synchronize  # noqa: F401

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")


# Setup: Flax is channels last on every device, so pictures are NHWC, kernels HWIO, dense weights [in, out],
# and `flatten` gives H, W, C. 'SAME', the default, is padding 1 for a 3x3 kernel of stride 1.
class CNN(nnx.Module):
    def __init__(self, dropout, rngs, **kind):
        self.conv1 = nnx.Conv(3, 50, (3, 3), rngs=rngs, **kind)
        self.conv2 = nnx.Conv(50, 50, (3, 3), rngs=rngs, **kind)
        self.conv3 = nnx.Conv(50, 100, (3, 3), rngs=rngs, **kind)
        self.conv4 = nnx.Conv(100, 100, (3, 3), rngs=rngs, **kind)
        self.dense1 = nnx.Linear(8 * 8 * 100, 512, rngs=rngs, **kind)
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
    network = CNN(model.task.dropout, nnx.Rngs(model.task.seed), **model.kind)
    for name in CONVOLUTIONS:
        getattr(network, name).kernel[...] = jnp.asarray(weights[name + ".weight"].transpose(2, 3, 1, 0), model.weights)
    dense1 = weights["dense1.weight"].reshape(512, 100, 8, 8).transpose(2, 3, 1, 0).reshape(6400, 512)
    network.dense1.kernel[...] = jnp.asarray(dense1, model.weights)
    network.dense2.kernel[...] = jnp.asarray(weights["dense2.weight"].T, model.weights)
    for name in (*CONVOLUTIONS, "dense1", "dense2"):
        getattr(network, name).bias[...] = jnp.asarray(weights[name + ".bias"], model.weights)
    # The same rule gives an equal graph: what was compiled stays valid.
    model.graph, model.state = nnx.split((network, nnx.Optimizer(network, model.rule, wrt=nnx.Param)))


# Place
def place(model, array):
    own = jnp.asarray(array.transpose(0, 2, 3, 1), model.weights) if array.ndim == 4 else jnp.asarray(array)
    return jax.block_until_ready(own)


# Train: `donate` lets the new weights take the memory of the old.
@partial(jax.jit, static_argnames="graph", donate_argnames="state")
def step(graph, state, x, y, batch):
    network, optimizer = nnx.merge(graph, state)

    def loss(network):
        return optax.softmax_cross_entropy_with_integer_labels(network(x[batch]), y[batch]).mean()

    value, gradients = nnx.value_and_grad(loss)(network)
    optimizer.update(network, gradients)
    return nnx.state((network, optimizer)), value


def train(model, x, y, order):
    losses = []
    for batch in order.reshape(-1, model.task.batch):
        model.state, loss = step(model.graph, model.state, x, y, batch)
        losses.append(loss)
    return losses


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
    dense1 = np.asarray(network.dense1.kernel[...]).reshape(8, 8, 100, 512)
    found["dense1.weight"] = dense1.transpose(3, 2, 0, 1).reshape(512, 6400)
    found["dense2.weight"] = np.asarray(network.dense2.kernel[...]).T
    for name in (*CONVOLUTIONS, "dense1", "dense2"):
        found[name + ".bias"] = np.asarray(getattr(network, name).bias[...])
    return found
