"""JAX with Flax NNX and Optax: the GRU on IMDB."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from setup import setup, synchronize  # noqa: F401


# Setup: NNX's cell has the canonical gates r, z, n and applies the reset after the product, as here. Its hidden product has
# no bias, though; the canonical GRU has one, and r scales its part in n.
class GRUCell(nnx.GRUCell):
    def __init__(self, width_in, width, rngs, **kind):
        super().__init__(width_in, width, rngs=rngs, **kind)
        self.dense_h = nnx.Linear(width, 3 * width, rngs=rngs, **kind)


class RNN(nnx.Module):
    def __init__(self, cell, rngs, **kind):
        self.embedding = nnx.Embed(30_000, 125, rngs=rngs, **kind)
        self.gru = nnx.RNN(cell(125, 100, rngs=rngs, **kind), time_major=True, return_carry=True)
        self.dense = nnx.Linear(100, 2, rngs=rngs, **kind)

    def __call__(self, x):
        # Time first: lax.scan, which nnx.RNN is made of, goes along the first axis.
        h, _ = self.gru(self.embedding(x.T))
        return self.dense(h).astype(self.dense.param_dtype)


# Build: modules are split into a static graph and a tree of arrays; only the tree goes through the compiled step.
def build(task, weights):
    model = setup(task)
    model.rule = optax.adam(task.learning_rate, task.beta1, task.beta2, task.epsilon)
    load(model, weights)
    return model


# Load: dense weights are [in, out], the transposed of the canonical ones.
def variables(network):
    """{canonical name: variable} of those that the network has."""
    cell = network.gru.cell
    found = {
        "embedding.weight": network.embedding.embedding,
        "gru.weight_ih": cell.dense_i.kernel,
        "gru.weight_hh": cell.dense_h.kernel,
        "gru.bias_ih": cell.dense_i.bias,
        "gru.bias_hh": cell.dense_h.bias,
        "dense.weight": network.dense.kernel,
        "dense.bias": network.dense.bias,
    }
    return {name: variable for name, variable in found.items() if variable is not None}


def load(model, weights):
    cell = nnx.GRUCell if model.task.as_shipped else GRUCell
    network = RNN(cell, nnx.Rngs(model.task.seed), **model.kind)
    for name, variable in variables(network).items():
        array = weights[name] if name == "embedding.weight" else weights[name].T
        variable[...] = jnp.asarray(array, model.weights)
    # The same rule gives an equal graph: what was compiled stays valid.
    model.graph, model.state = nnx.split((network, nnx.Optimizer(network, model.rule, wrt=nnx.Param)))


# Place
def place(model, array):
    return jax.block_until_ready(jnp.asarray(array))


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
    return network(x)


def predict(model, x):
    size = model.task.batch
    parts = [scores(model.graph, model.state, x[start : start + size]) for start in range(0, len(x), size)]
    return np.concatenate(parts)  # read only when every batch has been queued


# Weights
def weights(model):
    network, _ = nnx.merge(model.graph, model.state)
    found = {name: np.asarray(variable[...]) for name, variable in variables(network).items()}
    return {name: array if name == "embedding.weight" else array.T for name, array in found.items()}
