"""MLX: the GRU on IMDB."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from setup import DTYPES, forget, put, setup, synchronize  # noqa: F401


# Setup: nn.GRU has the canonical gates r, z, n and the reset after the product, but no hidden bias on r and z.
# This is the same loop with both biases; the input's products, free of the past, are one matrix product ahead of it.
class GRU(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.weight_ih = mx.zeros((3 * units, inputs))
        self.weight_hh = mx.zeros((3 * units, units))
        self.bias_ih = mx.zeros(3 * units)
        self.bias_hh = mx.zeros(3 * units)

    def __call__(self, x):
        i = mx.addmm(self.bias_ih, x.swapaxes(0, 1), self.weight_ih.T)
        h = mx.zeros((x.shape[0], self.weight_hh.shape[1]), x.dtype)
        for i_t in i:
            i_r, i_z, i_n = mx.split(i_t, 3, axis=-1)
            k_r, k_z, k_n = mx.split(mx.addmm(self.bias_hh, h, self.weight_hh.T), 3, axis=-1)
            z = mx.sigmoid(i_z + k_z)
            n = mx.tanh(i_n + mx.sigmoid(i_r + k_r) * k_n)
            h = (1 - z) * n + z * h
        return h


class ShippedGRU(nn.GRU):
    def __call__(self, x):
        return super().__call__(x)[:, -1]


SHIPPED = {"gru.weight_ih": "gru.Wx", "gru.weight_hh": "gru.Wh", "gru.bias_ih": "gru.b"}


class RNN(nn.Module):
    def __init__(self, gru):
        super().__init__()
        self.embedding = nn.Embedding(30_000, 125)
        self.gru = gru(125, 100)
        self.dense = nn.Linear(100, 2)

    def __call__(self, x):
        return self.dense(self.gru(self.embedding(x)))


def loss_of(model, x, y):
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


# Epsilon sits where it does in PyTorch, but the bias correction is off unless asked for.
def optimizer_of(task):
    return optim.Adam(task.learning_rate, (task.beta1, task.beta2), task.epsilon, bias_correction=not task.as_shipped)


# Build
def build(task, weights):
    setup(task)
    model = RNN(ShippedGRU if task.as_shipped else GRU)
    model.task = task
    model.optimizer = optimizer_of(task)
    load(model, weights)
    model.step = compiled_step(model)
    model.scores = mx.compile(lambda x: model(x), inputs=[model.state])
    return model


# Load
def load(model, weights):
    dtype = DTYPES[model.task.precision]
    own = {name: mx.array(array, dtype) for name, array in weights.items()}
    if model.task.as_shipped:
        own["gru.bhn"] = own.pop("gru.bias_hh")[200:]
        own = {SHIPPED.get(name, name): array for name, array in own.items()}
    model.load_weights(list(own.items()))
    forget(model, optimizer_of(model.task))


# Place
def place(model, array):
    return put(array)


# Train
def compiled_step(model):
    # A compiled function is pure: what it reads and changes besides its arguments is declared.
    state = [model.state, model.optimizer.state]
    loss_and_gradients = nn.value_and_grad(model, loss_of)

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x, y):
        loss, gradients = loss_and_gradients(model, x, y)
        model.optimizer.update(model, gradients)
        return loss

    return step


def train(model, x, y, order):
    losses = []
    for batch in mx.array(order).reshape(-1, model.task.batch):
        losses.append(model.step(x[batch], y[batch]))
        # Lazy until asked: without this, an epoch would be one graph. It computes while Python builds the next step.
        mx.async_eval(losses[-1], model.parameters(), model.optimizer.state)
    return mx.stack(losses)


# Predict
def predict(model, x):
    scores = []
    for start in range(0, len(x), model.task.batch):
        scores.append(model.scores(x[start : start + model.task.batch]))
        mx.async_eval(scores[-1])
    return mx.concatenate(scores)


# Weights
def weights(model):
    return {name: np.array(array) for name, array in tree_flatten(model.parameters())}
