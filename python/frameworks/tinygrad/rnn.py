"""tinygrad: the GRU on IMDB.

tinygrad has no GRU layer, and as one graph five of its 150 steps already compile longer than this whole leg. So time is
unrolled by hand: one compiled piece forward and one backward, replayed until all tokens are done. Autograd gives the gradients
within a step, the loop (recurrence.py) carries them on, and what does not depend on the past is one large product outside of it.
"""

import numpy as np
from recurrence import compile_parts
from setup import DTYPES, Schedule, parts, put, setup, synchronize  # noqa: F401
from tinygrad import Tensor, nn


# Setup: the canonical form (gates r, z, n; two biases; reset after the product), names and all.
class GRU:
    def __init__(self, inputs, units):
        self.units = units
        self.weight_ih, self.weight_hh = Tensor.zeros(3 * units, inputs), Tensor.zeros(3 * units, units)
        self.bias_ih, self.bias_hh = Tensor.zeros(3 * units), Tensor.zeros(3 * units)

    def from_input(self, e):
        return e.linear(self.weight_ih.T, self.bias_ih)

    def from_past(self, h):
        return h.linear(self.weight_hh.T, self.bias_hh)

    def cell(self, i, k, h):
        (i_r, i_z, i_n), (k_r, k_z, k_n) = i.chunk(3, -1), k.chunk(3, -1)
        z = (i_z + k_z).sigmoid()
        n = (i_n + (i_r + k_r).sigmoid() * k_n).tanh()
        return (1 - z) * n + z * h


class RNN:
    def __init__(self):
        self.embedding = nn.Embedding(30_000, 125)
        self.gru = GRU(125, 100)
        self.dense = nn.Linear(100, 2)


# Build
def build(task, weights):
    setup(task)
    model = RNN()
    model.task = task
    model.state, model.schedule = nn.state.get_state_dict(model), Schedule(task)
    # Epsilon sits where it does in PyTorch. Both moments are float32 whatever the weights are, and so are the powers
    # of beta: in fp64 everything has to be float64.
    model.optimizer = nn.optim.Adam(
        list(model.state.values()), task.learning_rate, task.beta1, task.beta2, task.epsilon
    )
    dtype = DTYPES[task.precision]
    for name in ("m", "v"):
        setattr(model.optimizer, name, [Tensor.zeros(w.shape, dtype=dtype).contiguous() for w in model.state.values()])
    for name in ("b1_t", "b2_t"):
        setattr(model.optimizer, name, Tensor.ones(1, dtype=dtype).contiguous().is_param_(False))
    load(model, weights)
    compile_parts(model)
    return model


# Load
def load(model, weights):
    put(model.state.values(), [weights[name] for name in model.state])
    optimizer = model.optimizer
    put(optimizer.m + optimizer.v, [np.zeros(w.shape) for w in optimizer.m + optimizer.v])
    put([optimizer.b1_t, optimizer.b2_t], [np.ones(1)] * 2)


# Place
def place(model, array):
    return Tensor(np.array(array), dtype="int32").realize()


# Train
def train(model, x, y, order):
    positions, losses, steps = model.schedule.of(order, len(x))
    for t in steps:
        model.train_batch(x, y, positions, losses, t)
    return losses.numpy()[: len(steps)]


# Predict
def predict(model, x):
    # The next replay overwrites what this one returns.
    scores = [model.predict_batch(part).clone().realize() for part in parts(x, model.task.batch)]
    return Tensor.cat(*scores).numpy()


# Weights
def weights(model):
    return {name: tensor.numpy() for name, tensor in model.state.items()}
