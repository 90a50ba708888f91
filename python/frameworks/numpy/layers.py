"""What both NumPy networks share: the loss, the dense layer and the two optimizers.

A parameter is a pair of arrays in the layout that the products want; gradients are written into arrays that exist already, because
fresh pages cost more than the arithmetic.
"""

import numpy as np

DTYPES = {"fp64": np.float64, "fp32": np.float32}


class Dense:
    """y = x w + b, with w stored as [in, out]: the transpose of the canonical layout."""

    def __init__(self, name):
        self.names = name + ".weight", name + ".bias"

    def load(self, weights, dtype):
        self.parameters = [
            np.array(weights[self.names[0]].T, dtype, order="C"),
            np.array(weights[self.names[1]], dtype),
        ]
        self.gradients = [np.empty_like(parameter) for parameter in self.parameters]

    def canonical(self):
        return dict(zip(self.names, (self.parameters[0].T, self.parameters[1])))

    def forward(self, x):
        self.x = x
        return x @ self.parameters[0] + self.parameters[1]

    def backward(self, dy):
        np.matmul(self.x.T, dy, out=self.gradients[0])
        np.sum(dy, axis=0, out=self.gradients[1])
        return dy @ self.parameters[0].T


def cross_entropy(logits, y):
    """Mean loss of [n, classes] logits, and its gradient."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    p /= len(y)
    return loss, p


class SGD:
    """v = momentum v + g; w = w - rate v."""

    def __init__(self, task, layers):
        self.rate, self.momentum = task.learning_rate, task.momentum
        self.pairs = [pair for layer in layers for pair in zip(layer.parameters, layer.gradients)]
        self.velocities = [np.zeros_like(w) for w, _ in self.pairs]

    def step(self):
        for (w, g), v in zip(self.pairs, self.velocities):
            v *= self.momentum
            v += g
            np.multiply(v, self.rate, out=g)
            w -= g


class Adam:
    """The published algorithm, its two bias corrections folded into the rate and into epsilon: exact, with fewer passes."""

    def __init__(self, task, layers):
        self.task, self.t = task, 0
        self.pairs = [pair for layer in layers for pair in zip(layer.parameters, layer.gradients)]
        self.moments = [(np.zeros_like(w), np.zeros_like(w)) for w, _ in self.pairs]

    def step(self):
        self.t += 1
        b1, b2 = self.task.beta1, self.task.beta2
        root = (1 - b2**self.t) ** 0.5
        rate, epsilon = self.task.learning_rate * root / (1 - b1**self.t), self.task.epsilon * root
        for (w, g), (m, v) in zip(self.pairs, self.moments):
            m *= b1
            v *= b2
            work = g * (1 - b1)
            m += work
            np.square(g, out=work)
            work *= 1 - b2
            v += work
            np.sqrt(v, out=work)
            work += epsilon
            np.divide(m, work, out=work)
            work *= rate
            w -= work
