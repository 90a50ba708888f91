"""NumPy, no framework: the GRU on IMDB.

The input's products do not depend on the past: they are one large matrix product ahead of the loop over time, and so are
all gradients of weights behind it. Only W_hh h stays inside.
"""

import numpy as np
from layers import DTYPES, Adam, Dense, cross_entropy


# Setup: the layers, and the network
class Embedding:
    names = ("embedding.weight",)

    def load(self, weights, dtype):
        self.parameters = [np.array(weights[self.names[0]], dtype)]
        self.gradients = [np.zeros_like(self.parameters[0])]

    def canonical(self):
        return {self.names[0]: self.parameters[0]}

    def forward(self, tokens):
        self.tokens = tokens
        return self.parameters[0][tokens]

    def backward(self, de):
        """A token's gradient is the sum over all its places: sorted, the places lie side by side."""
        order = np.argsort(self.tokens, kind="stable")
        tokens, starts = np.unique(self.tokens[order], return_index=True)
        self.gradients[0].fill(0)
        self.gradients[0][tokens] = np.add.reduceat(de[order], starts, axis=0)


class GRU:
    """Gates r, z, n, two biases, the reset gate after the product: exactly the canonical form, its matrices transposed."""

    names = "gru.weight_ih", "gru.weight_hh", "gru.bias_ih", "gru.bias_hh"

    def load(self, weights, dtype):
        self.parameters = [np.array(weights[name].T, dtype, order="C") for name in self.names]
        self.gradients = [np.empty_like(parameter) for parameter in self.parameters]

    def canonical(self):
        return {name: parameter.T for name, parameter in zip(self.names, self.parameters)}

    def forward(self, e, batch):
        """e [time * batch, E] -> the last h [batch, H]."""
        w_ih, w_hh, b_ih, b_hh = self.parameters
        H = len(w_hh)
        i = (e @ w_ih + b_ih).reshape(-1, batch, 3 * H)
        h = np.zeros((len(i) + 1, batch, H), e.dtype)
        k, gates, n = np.empty_like(i), np.empty_like(i[:, :, : 2 * H]), np.empty_like(i[:, :, :H])
        for t in range(len(i)):
            np.matmul(h[t], w_hh, out=k[t])
            k[t] += b_hh
            # sigmoid(a) = (1 + tanh(a / 2)) / 2: never overflows
            np.tanh((i[t, :, : 2 * H] + k[t, :, : 2 * H]) * 0.5, out=gates[t])
            gates[t] *= 0.5
            gates[t] += 0.5
            r, z = gates[t, :, :H], gates[t, :, H:]
            np.tanh(i[t, :, 2 * H :] + r * k[t, :, 2 * H :], out=n[t])
            h[t + 1] = n[t] + z * (h[t] - n[t])
        self.tape = e, h, k, gates, n
        return h[-1]

    def backward(self, dh):
        e, h, k, gates, n = self.tape
        w_ih, w_hh = self.parameters[:2]
        H = len(w_hh)
        di, dk = np.empty_like(k), np.empty_like(k)
        for t in reversed(range(len(k))):
            r, z = gates[t, :, :H], gates[t, :, H:]
            dn = dh * (1 - z) * (1 - n[t] * n[t])
            di[t, :, :H] = dn * k[t, :, 2 * H :] * r * (1 - r)
            di[t, :, H : 2 * H] = dh * (h[t] - n[t]) * z * (1 - z)
            di[t, :, 2 * H :] = dn
            dk[t, :, : 2 * H] = di[t, :, : 2 * H]
            dk[t, :, 2 * H :] = dn * r
            dh = dh * z + dk[t] @ w_hh.T
        di, dk, before = di.reshape(-1, 3 * H), dk.reshape(-1, 3 * H), h[:-1].reshape(-1, H)
        np.matmul(e.T, di, out=self.gradients[0])
        np.matmul(before.T, dk, out=self.gradients[1])
        np.sum(di, axis=0, out=self.gradients[2])
        np.sum(dk, axis=0, out=self.gradients[3])
        return di @ w_ih.T


class RNN:
    def __init__(self, task):
        self.task, self.dtype = task, DTYPES[task.precision]
        self.embedding, self.gru, self.dense = Embedding(), GRU(), Dense("dense")
        self.layers = [self.embedding, self.gru, self.dense]

    def scores(self, x):
        # Time first, so that each step of the loop reads one contiguous block.
        return self.dense.forward(self.gru.forward(self.embedding.forward(x.T.ravel()), len(x)))

    def backward(self, d):
        self.embedding.backward(self.gru.backward(self.dense.backward(d)))


# Build
def build(task, weights):
    model = RNN(task)
    load(model, weights)
    return model


# Load
def load(model, weights):
    for layer in model.layers:
        layer.load(weights, model.dtype)
    model.optimizer = Adam(model.task, model.layers)


# Place
def place(model, array):
    return np.array(array)


# Train
def train(model, x, y, order):
    losses = []
    for batch in order.reshape(-1, model.task.batch):
        loss, d = cross_entropy(model.scores(x[batch]), y[batch])
        model.backward(d)
        model.optimizer.step()
        losses.append(loss)
    return losses


# Predict
def predict(model, x):
    return np.concatenate([model.scores(part) for part in np.split(x, len(x) // model.task.batch)])


# Weights
def weights(model):
    return {name: array for layer in model.layers for name, array in layer.canonical().items()}


# Synchronize
def synchronize(model):
    """NumPy computes at once: there is nothing to wait for."""
