"""Chainer: the CNN on CIFAR-10."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: Chainer's layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W): nothing is permuted.
NAMES = {"weight": "W", "bias": "b"}


class CNN(chainer.Chain):
    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout
        with self.init_scope():
            self.conv1 = L.Convolution2D(3, 50, 3, pad=1)
            self.conv2 = L.Convolution2D(50, 50, 3, pad=1)
            self.conv3 = L.Convolution2D(50, 100, 3, pad=1)
            self.conv4 = L.Convolution2D(100, 100, 3, pad=1)
            self.dense1 = L.Linear(100 * 8 * 8, 512)
            self.dense2 = L.Linear(512, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pooling_2d(self.conv2(x), 2))
        x = F.dropout(x, 0.25) if self.dropout else x
        x = F.relu(self.conv3(x))
        x = F.relu(F.max_pooling_2d(self.conv4(x), 2))
        x = F.dropout(x, 0.25) if self.dropout else x
        x = F.relu(self.dense1(x))  # Linear flattens by itself
        x = F.dropout(x, 0.5) if self.dropout else x
        return self.dense2(x)


# Build
def build(task, weights):
    setup(task)
    model = CNN(task.dropout)
    model.task = task
    load(model, weights)
    return model


# Load
def parameter(model, name):
    layer, kind = name.split(".")
    return getattr(model[layer], NAMES[kind])


def load(model, weights):
    task = model.task
    for name, array in weights.items():
        parameter(model, name).array[...] = array
    model.optimizer = chainer.optimizers.MomentumSGD(task.learning_rate, task.momentum).setup(model)


# Place
def place(model, array):
    return np.array(array, DTYPES[model.task.precision] if array.ndim == 4 else None)


# Train
def train(model, x, y, order):
    losses = []
    for batch in order.reshape(-1, model.task.batch):
        loss = F.softmax_cross_entropy(model(x[batch]), y[batch])
        model.cleargrads()
        loss.backward()
        model.optimizer.update()
        losses.append(loss.array)
    return np.stack(losses)


# Predict
def predict(model, x):
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        size = model.task.batch
        return np.concatenate([model(x[start : start + size]).array for start in range(0, len(x), size)])


# Weights
def weights(model):
    names = [f"{layer.name}.{kind}" for layer in model.children() for kind in NAMES]
    return {name: parameter(model, name).array.copy() for name in names}
