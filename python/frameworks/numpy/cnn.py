"""NumPy, no framework: the CNN on CIFAR-10.

A convolution is a matrix product: every 3 x 3 window becomes a row (im2col), and BLAS does the rest.
Pictures are channels last here, so that the three pixels of a window's row lie side by side in memory.
"""

import numpy as np
from layers import DTYPES, SGD, Dense, cross_entropy
from numpy.lib.stride_tricks import as_strided


# Setup: the layers, and the network
class Conv:
    """3 x 3, padding 1. w is [9 in, out]: kernel row, kernel column, channel; canonical is OIHW."""

    def __init__(self, name):
        self.names = name + ".weight", name + ".bias"
        self.buffers = {}

    def load(self, weights, dtype):
        w = np.array(weights[self.names[0]], dtype)
        self.channels = w.shape[1]
        self.parameters = [
            np.ascontiguousarray(w.transpose(2, 3, 1, 0)).reshape(-1, len(w)),
            np.array(weights[self.names[1]], dtype),
        ]
        self.gradients = [np.empty_like(parameter) for parameter in self.parameters]

    def canonical(self):
        w, b = self.parameters
        return dict(zip(self.names, (w.reshape(3, 3, self.channels, -1).transpose(3, 2, 0, 1), b)))

    def windows(self, x, key):
        """The windows of x [n, h, w, c] as rows: [n h w, 9 c], in a buffer that is kept from step to step."""
        n, h, w, c = x.shape
        if self.buffers.get(key, (None, None))[0] != x.shape:
            self.buffers[key] = x.shape, np.zeros((n, h + 2, w + 2, c), x.dtype), np.empty((n, h, w, 3, 3 * c), x.dtype)
        _, padded, rows = self.buffers[key]
        padded[:, 1:-1, 1:-1] = x
        s = padded.strides
        rows[...] = as_strided(padded, rows.shape, (s[0], s[1], s[2], s[1], s[3]))
        return rows.reshape(n * h * w, 9 * c)

    def forward(self, x):
        self.rows = self.windows(x, "x")
        y = self.rows @ self.parameters[0]
        y += self.parameters[1]
        return y.reshape(x.shape[:3] + (-1,))

    def backward(self, dy, first=False):
        """The gradient of the input is a convolution too: of dy, with the kernels turned by 180 degrees."""
        n, h, w, out = dy.shape
        flat = dy.reshape(-1, out)
        np.matmul(self.rows.T, flat, out=self.gradients[0])
        np.sum(flat, axis=0, out=self.gradients[1])
        if first:
            return None
        turned = (
            self.parameters[0].reshape(3, 3, self.channels, out)[::-1, ::-1].transpose(0, 1, 3, 2).reshape(9 * out, -1)
        )
        return (self.windows(dy, "dy") @ turned).reshape(n, h, w, -1)


def relu(x):
    """In place, and the mask for the way back."""
    np.maximum(x, 0, out=x)
    return x, x > 0


def quarters(x):
    """The four views whose maximum is the pooled picture."""
    return x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]


def pool(x):
    a, b, c, d = quarters(x)
    return np.maximum(np.maximum(a, b), np.maximum(c, d))


def pool_back(dy, x, y):
    """The gradient goes to the first of the four that holds the maximum."""
    dx = np.empty_like(x)
    free = np.ones(y.shape, bool)
    for quarter, target in zip(quarters(x), quarters(dx)):
        hit = (quarter == y) & free
        np.multiply(dy, hit, out=target)
        free &= ~hit
    return dx


class CNN:
    def __init__(self, task):
        self.task, self.dtype = task, DTYPES[task.precision]
        self.convs = [Conv("conv%d" % i) for i in (1, 2, 3, 4)]
        self.denses = [Dense("dense1"), Dense("dense2")]
        self.random = np.random.default_rng(task.seed)

    def dropout(self, x, rate):
        """Inverted dropout: what stays grows by 1 / (1 - rate)."""
        if not self.task.dropout:
            return x, 1
        mask = (self.random.random(x.shape, np.float32) >= rate) * self.dtype(1 / (1 - rate))
        return x * mask, mask

    def block(self, x, first, second):
        h, mask = relu(first.forward(x))
        h = second.forward(h)
        y = pool(h)
        y_relu, mask_pool = relu(y.copy())
        return y_relu, (mask, h, y, mask_pool)

    def block_back(self, dy, first, second, tape, outermost):
        mask, h, y, mask_pool = tape
        dh = second.backward(pool_back(dy * mask_pool, h, y))
        dh *= mask
        return first.backward(dh, outermost)

    def scores(self, x, training=False):
        drop = self.dropout if training else lambda x, rate: (x, 1)
        h, tape1 = self.block(x, *self.convs[:2])
        h, drop1 = drop(h, 0.25)
        h, tape2 = self.block(h, *self.convs[2:])
        h, drop2 = drop(h, 0.25)
        shape = h.shape
        # Channels last is flattened as C, H, W, which is what dense1 is written for.
        h, mask = relu(self.denses[0].forward(h.transpose(0, 3, 1, 2).reshape(len(x), -1)))
        h, drop3 = drop(h, 0.5)
        self.tape = tape1, drop1, tape2, drop2, shape, mask, drop3
        return self.denses[1].forward(h)

    def backward(self, d):
        tape1, drop1, tape2, drop2, (n, height, width, channels), mask, drop3 = self.tape
        d = self.denses[0].backward(self.denses[1].backward(d) * drop3 * mask)
        d = d.reshape(n, channels, height, width).transpose(0, 2, 3, 1) * drop2
        d = self.block_back(d, *self.convs[2:], tape2, False)
        self.block_back(d * drop1, *self.convs[:2], tape1, True)


# Build
def build(task, weights):
    model = CNN(task)
    load(model, weights)
    return model


# Load
def load(model, weights):
    for layer in model.convs + model.denses:
        layer.load(weights, model.dtype)
    model.optimizer = SGD(model.task, model.convs + model.denses)


# Place
def place(model, array):
    return array.transpose(0, 2, 3, 1).astype(model.dtype, order="C") if array.ndim == 4 else np.array(array)


# Train
def train(model, x, y, order):
    losses = []
    for batch in order.reshape(-1, model.task.batch):
        loss, d = cross_entropy(model.scores(x[batch], training=True), y[batch])
        model.backward(d)
        model.optimizer.step()
        losses.append(loss)
    return losses


# Predict
def predict(model, x):
    return np.concatenate([model.scores(part) for part in np.split(x, len(x) // model.task.batch)])


# Weights
def weights(model):
    return {name: array for layer in model.convs + model.denses for name, array in layer.canonical().items()}


# Synchronize
def synchronize(model):
    """NumPy computes at once: there is nothing to wait for."""
