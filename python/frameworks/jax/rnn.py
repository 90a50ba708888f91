"""JAX with Flax NNX and Optax: the GRU on IMDB."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from setup import blocks, in_turn, setup, steps_per_execution, synchronize  # noqa: F401


# Setup: NNX's cell has the canonical gates r, z, n and applies the reset after the product, as here. Its hidden product has
# no bias, though; the canonical GRU has one, and r scales its part in n.
class GRUCell(nnx.GRUCell):
    def __init__(self, width_in, width, rngs, **kind):
        super().__init__(width_in, width, rngs=rngs, **kind)
        self.dense_h = nnx.Linear(width, 3 * width, rngs=rngs, **kind)

    # `i` is dense_i of the token: formed for all tokens at once, it is one large product instead of 150 small ones.
    def __call__(self, h, i):
        i_r, i_z, i_n = jnp.split(i, 3, axis=-1)
        k_r, k_z, k_n = jnp.split(self.dense_h(h), 3, axis=-1)
        r, z = nnx.sigmoid(i_r + k_r), nnx.sigmoid(i_z + k_z)
        n = nnx.tanh(i_n + r * k_n)
        h = (1 - z) * n + z * h
        return h, h


class RNN(nnx.Module):
    def __init__(self, cell, rngs, unroll, **kind):
        self.embedding = nnx.Embed(30_000, 125, rngs=rngs, **kind)
        # The weights are the same at every token, not state that is carried from one to the next, as nnx.RNN assumes.
        same = nnx.StateAxes({...: None})
        cell = cell(125, 100, rngs=rngs, **kind)
        self.gru = nnx.RNN(cell, time_major=True, return_carry=True, unroll=unroll, state_axes=same)
        self.dense = nnx.Linear(100, 2, rngs=rngs, **kind)

    def __call__(self, x):
        # Time first: lax.scan, which nnx.RNN is made of, goes along the first axis.
        x, cell = self.embedding(x.T), self.gru.cell
        h, _ = self.gru(cell.dense_i(x) if isinstance(cell, GRUCell) else x)
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
    # Ten tokens at a time: on an H200 a step takes .55 of the time so, on a CPU 1.4 times as long.
    unroll = 10 if model.task.device == "cuda" else 1
    network = RNN(cell, nnx.Rngs(model.task.seed), unroll, **model.kind)
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
