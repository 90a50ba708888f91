"""tinygrad: the GRU on IMDB.

tinygrad has no GRU layer, and as one graph five of its 150 steps already compile longer than this whole leg. So time is
unrolled by hand: one compiled step forward and one backward, replayed for every token. Autograd gives the gradients
within a step, the loop carries them on, and what does not depend on the past is one large product outside the loops.
"""

import numpy as np
from setup import DTYPES, put, setup, synchronize  # noqa: F401
from tinygrad import Context, Tensor, TinyJit, UOp, nn

LENGTH, UNITS = 150, 100


# Setup: the canonical form (gates r, z, n; two biases; reset after the product), names and all.
class GRU:
    def __init__(self, inputs, units):
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
        self.gru = GRU(125, UNITS)
        self.dense = nn.Linear(UNITS, 2)


class Tape:
    """What the steps read and write, time first: the products of input and past, the states, and their gradients."""

    def __init__(self, batch):
        self.i, self.k, self.di, self.dk = (Tensor.zeros(LENGTH, batch, 3 * UNITS).contiguous() for _ in range(4))
        self.h, self.dh = Tensor.zeros(LENGTH + 1, batch, UNITS).contiguous(), Tensor.zeros(batch, UNITS).contiguous()
        Tensor.realize(self.i, self.k, self.di, self.dk, self.h, self.dh)


# Build
def build(task, weights):
    setup(task)
    model = RNN()
    model.task = task
    model.state = nn.state.get_state_dict(model)
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


def compile_parts(model):
    """Each part runs as it is the first time, is captured the second, and replayed from the third on."""
    gru, tape, optimizer = model.gru, Tape(model.task.batch), model.optimizer
    # A one-hot product over the whole vocabulary is how tinygrad sums an embedding's gradient, unless it is told to add
    # up in place: it can do that on a CPU, and on AMD's GPUs.
    in_place = Context(USE_ATOMICS=int(model.task.device == "cpu"))

    def project(tokens):
        with in_place:
            return gru.from_input(model.embedding(tokens.T))

    @TinyJit
    def take(x, y, batch):
        return x[batch].realize(), y[batch].realize()

    @TinyJit
    def start(tokens):
        tape.i.assign(project(tokens)).realize()

    @TinyJit
    def forward(t):
        h = tape.h[t]
        k = gru.from_past(h).contiguous()
        after = gru.cell(tape.i[t], k, h)
        Tensor.realize(tape.k[t : t + 1].assign(k.unsqueeze(0)), tape.h[t + 1 : t + 2].assign(after.unsqueeze(0)))

    @TinyJit
    def scores():
        return model.dense(tape.h[LENGTH]).realize()

    @TinyJit
    def turn(y):
        last = tape.h[LENGTH].contiguous()
        loss = model.dense(last).cross_entropy(y)
        model.dense.weight.grad, model.dense.bias.grad, dh = loss.gradient(model.dense.weight, model.dense.bias, last)
        return loss.realize(tape.dh.assign(dh), model.dense.weight.grad, model.dense.bias.grad)

    @TinyJit
    def backward(t):
        i, k, h = (tensor[t].contiguous() for tensor in (tape.i, tape.k, tape.h))
        di, dk, dh = gru.cell(i, k, h).gradient(i, k, h, gradient=tape.dh)
        Tensor.realize(
            tape.di[t : t + 1].assign(di.unsqueeze(0)),
            tape.dk[t : t + 1].assign(dk.unsqueeze(0)),
            tape.dh.assign((dh + dk @ gru.weight_hh).contiguous()),
        )

    @TinyJit
    @Context(TRAINING=1)
    def update(tokens):
        inputs = [model.embedding.weight, gru.weight_ih, gru.bias_ih]
        for weight, gradient in zip(inputs, project(tokens).gradient(*inputs, gradient=tape.di)):
            weight.grad = gradient
        past = [gru.weight_hh, gru.bias_hh]
        for weight, gradient in zip(past, gru.from_past(tape.h[:LENGTH]).gradient(*past, gradient=tape.dk)):
            weight.grad = gradient
        Tensor.realize(*optimizer.schedule_step())

    # The step number is a variable of the kernels: one compiled step serves all.
    steps = [UOp.variable("t", 0, LENGTH - 1).bind(t) for t in range(LENGTH)]

    def train_batch(x, y, batch):
        tokens, labels = take(x, y, batch)
        start(tokens)
        for t in steps:
            forward(t)
        loss = turn(labels)
        for t in reversed(steps):
            backward(t)
        update(tokens)
        return loss

    def predict_batch(tokens):
        start(tokens)
        for t in steps:
            forward(t)
        return scores()

    model.train_batch, model.predict_batch = train_batch, predict_batch


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
    losses = []
    for batch in order.astype(np.int32).reshape(-1, model.task.batch):
        # The next replay overwrites what this one returns.
        losses.append(model.train_batch(x, y, Tensor(batch)).clone().realize())
    return Tensor.stack(*losses).numpy()


# Predict
def predict(model, x):
    scores = [model.predict_batch(part.clone().realize()).clone().realize() for part in x.split(model.task.batch)]
    return Tensor.cat(*scores).numpy()


# Weights
def weights(model):
    return {name: tensor.numpy() for name, tensor in model.state.items()}
