"""Chainer: the GRU on IMDB."""

import math

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: NStepGRU is the canonical form (gates r, z, n; two biases; reset after the product), but every gate has its own
# weight: w0, w1, w2 for the input, w3, w4, w5 for the hidden state.
GRU = {
    "gru.weight_ih": ("w0", "w1", "w2"),
    "gru.weight_hh": ("w3", "w4", "w5"),
    "gru.bias_ih": ("b0", "b1", "b2"),
    "gru.bias_hh": ("b3", "b4", "b5"),
}


class RNN(chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.embedding = L.EmbedID(30_000, 125)
            self.gru = L.NStepGRU(1, 125, 100, dropout=0)
            self.dense = L.Linear(100, 2)

    def forward(self, x):
        # NStepGRU takes a list of sequences, which may differ in length. It is one kernel with cuDNN alone: on a CPU it
        # is a loop of small functions.
        h, _ = self.gru(None, F.separate(self.embedding(x)))
        return self.dense(h[0])


# Build
def build(task, weights):
    setup(task)
    model = RNN()
    model.task = task
    load(model, weights)
    return model


# Load
def parameters(model):
    """{canonical name: the arrays that stand for it, one below the other}"""
    gates = model.gru[0]
    arrays = {name: [getattr(gates, own).array for own in names] for name, names in GRU.items()}
    arrays["embedding.weight"] = [model.embedding.W.array]
    arrays["dense.weight"] = [model.dense.W.array]
    arrays["dense.bias"] = [model.dense.b.array]
    return arrays


def load(model, weights):
    task = model.task
    for name, arrays in parameters(model).items():
        for array, part in zip(arrays, np.split(weights[name], len(arrays))):
            array[...] = part
    model.optimizer = chainer.optimizers.Adam(task.learning_rate, task.beta1, task.beta2, task.epsilon).setup(model)


# Place
def place(model, array):
    return np.array(array)


# Train
def train(model, x, y, order):
    task, optimizer = model.task, model.optimizer
    losses = []
    for batch in order.reshape(-1, task.batch):
        loss = F.softmax_cross_entropy(model(x[batch]), y[batch])
        model.cleargrads()
        loss.backward()
        if not task.as_shipped:
            # Chainer divides by sqrt(v) + eps and corrects the rate by sqrt(1 - beta2^t) / (1 - beta1^t): this eps is epsilon
            # after the correction of v.
            optimizer.eps = task.epsilon * math.sqrt(1 - task.beta2 ** (optimizer.t + 1))
        optimizer.update()
        losses.append(loss.array)
    return np.stack(losses)


# Predict
def predict(model, x):
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        size = model.task.batch
        return np.concatenate([model(x[start : start + size]).array for start in range(0, len(x), size)])


# Weights
def weights(model):
    return {name: np.concatenate(arrays) for name, arrays in parameters(model).items()}
