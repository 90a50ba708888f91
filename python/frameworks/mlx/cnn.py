"""MLX: the CNN on CIFAR-10."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from setup import DTYPES, forget, put, setup, synchronize  # noqa: F401


# Setup: channels last. Kernels are O, H, W, I; dense weights [out, in], as in PyTorch.
class CNN(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 50, 3, padding=1)
        self.conv2 = nn.Conv2d(50, 50, 3, padding=1)
        self.conv3 = nn.Conv2d(50, 100, 3, padding=1)
        self.conv4 = nn.Conv2d(100, 100, 3, padding=1)
        self.dense1 = nn.Linear(100 * 8 * 8, 512)
        self.dense2 = nn.Linear(512, 10)
        self.pool = nn.MaxPool2d(2)
        self.dropout_conv = nn.Dropout(0.25 if dropout else 0)
        self.dropout_dense = nn.Dropout(0.5 if dropout else 0)

    def __call__(self, x):
        x = nn.relu(self.conv1(x))
        x = nn.relu(self.pool(self.conv2(x)))
        x = self.dropout_conv(x)
        x = nn.relu(self.conv3(x))
        x = nn.relu(self.pool(self.conv4(x)))
        x = self.dropout_conv(x)
        x = nn.relu(self.dense1(x.flatten(1)))
        return self.dense2(self.dropout_dense(x))


def loss_of(model, x, y):
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


def optimizer_of(task):
    return optim.SGD(task.learning_rate, task.momentum)


# Build
def build(task, weights):
    setup(task)
    model = CNN(task.dropout)
    model.task = task
    model.optimizer = optimizer_of(task)
    load(model, weights)
    model.step = compiled_step(model)
    model.scores = mx.compile(lambda x: model(x), inputs=[model.state])
    return model


# Load: the canonical weights flatten C, H, W; channels last flatten H, W, C: dense1's columns are permuted.
def to_own(name, array):
    if name == "dense1.weight":
        return array.reshape(512, 100, 8, 8).transpose(0, 2, 3, 1).reshape(512, -1)
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def to_canonical(name, array):
    if name == "dense1.weight":
        return array.reshape(512, 8, 8, 100).transpose(0, 3, 1, 2).reshape(512, -1)
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def load(model, weights):
    dtype = DTYPES[model.task.precision]
    model.load_weights([(name, mx.array(to_own(name, array), dtype)) for name, array in weights.items()])
    forget(model, optimizer_of(model.task))


# Place
def place(model, array):
    if array.ndim == 4:
        return put(array.transpose(0, 2, 3, 1), DTYPES[model.task.precision])
    return put(array)


# Train
def compiled_step(model):
    # A compiled function is pure: what it reads and changes besides its arguments is declared.
    state = [model.state, model.optimizer.state, mx.random.state]
    loss_and_gradients = nn.value_and_grad(model, loss_of)

    @partial(mx.compile, inputs=state, outputs=state)
    def step(x, y):
        loss, gradients = loss_and_gradients(model, x, y)
        model.optimizer.update(model, gradients)
        return loss

    return step


def train(model, x, y, order):
    model.train()
    losses = []
    for batch in mx.array(order).reshape(-1, model.task.batch):
        losses.append(model.step(x[batch], y[batch]))
        # Lazy until asked: without this, an epoch would be one graph. It computes while Python builds the next step.
        mx.async_eval(losses[-1], model.parameters(), model.optimizer.state)
    return mx.stack(losses)


# Predict
def predict(model, x):
    model.eval()
    scores = []
    for start in range(0, len(x), model.task.batch):
        scores.append(model.scores(x[start : start + model.task.batch]))
        mx.async_eval(scores[-1])
    return mx.concatenate(scores)


# Weights
def weights(model):
    return {name: to_canonical(name, np.array(array)) for name, array in tree_flatten(model.parameters())}
