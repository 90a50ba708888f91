"""The loop over time of tinygrad's GRU: one compiled piece forward and one backward, replayed until all tokens are done."""

from tinygrad import Context, Tensor, TinyJit, UOp, dtypes
from tinygrad.uop.ops import AxisType, KernelInfo, Ops

LENGTH = 150

# For speed: how many tokens a piece takes. Python needs longer for a replay than a GPU for a token, and each further token of a
# piece is compiled anew, because its number stands in its kernels.
TOKENS = {"cpu": 1, "cuda": 5}


class Tape:
    """What the steps read and write, time first: embedded tokens, products of input and past, states, and gradients."""

    def __init__(self, batch, inputs, units):
        self.e = Tensor.zeros(LENGTH, batch, inputs).contiguous()
        self.i, self.k, self.di, self.dk = (Tensor.zeros(LENGTH, batch, 3 * units).contiguous() for _ in range(4))
        self.h = Tensor.zeros(LENGTH + 1, batch, units).contiguous()
        self.now, self.dh = (Tensor.zeros(batch, units).contiguous() for _ in range(2))
        Tensor.realize(self.e, self.i, self.k, self.di, self.dk, self.h, self.now, self.dh)


# An embedding's gradient, row by row in place. tinygrad's own is a one-hot product over the whole vocabulary on CUDA: it adds
# up in place on a CPU and on AMD's GPUs alone.
ADD = {"cpu": "__atomic_fetch_add({0}, {1}, __ATOMIC_RELAXED);", "cuda": "atomicAdd({0}, {1});"}


def summed_by_token(rows, tokens, vocabulary, device):
    """The rows [n, units] of each of the vocabulary's tokens, added up."""

    def kernel(total, rows, tokens):
        row = UOp.range(rows.shape[0], 0)
        unit = UOp.range(rows.shape[1], 1, AxisType.LOCAL if device == "cuda" else AxisType.WEAK)
        target = total.index(tokens[row].cast(dtypes.weakint), unit)
        added = UOp(Ops.CUSTOM, src=(target, rows[row, unit].load()), arg=ADD[device])
        return added.end(row, unit).sink(arg=KernelInfo(name="summed_by_token", opts_to_apply=()))

    total = Tensor.zeros(vocabulary, rows.shape[1], dtype=rows.dtype).contiguous()
    return total.custom_kernel(rows.contiguous(), tokens.contiguous(), fxn=kernel)[0]


def compile_parts(model):
    """Each part runs as it is the first time, is captured the second, and replayed from the third on."""
    gru, optimizer, embedding = model.gru, model.optimizer, model.embedding.weight
    tape = Tape(model.task.batch, embedding.shape[1], gru.units)
    tokens_of_piece = range(TOKENS[model.task.device])

    def embed(tokens):
        tape.e.assign(model.embedding(tokens.T)).realize()
        tape.i.assign(gru.from_input(tape.e)).realize()
        tape.now.assign(tape.h[0]).realize()

    @TinyJit
    def take(x, y, positions, s):
        batch = positions[s]
        tokens, labels = x[batch].realize(), y[batch].realize()
        embed(tokens)
        return tokens, labels

    start = TinyJit(embed)

    # Each result is realized by itself, straight to its place on the tape. A kernel that reads what another is about to
    # overwrite would go by a buffer of its own and a copy; the last state lies apart for that reason, too.
    @TinyJit
    def forward(piece):
        for token in tokens_of_piece:
            t = piece * len(tokens_of_piece) + token
            tape.k[t : t + 1].assign(gru.from_past(tape.now).unsqueeze(0)).realize()
            tape.h[t + 1 : t + 2].assign(gru.cell(tape.i[t], tape.k[t], tape.now).unsqueeze(0)).realize()
            tape.now.assign(tape.h[t + 1]).realize()

    @TinyJit
    def scores():
        return model.dense(tape.h[LENGTH]).realize()

    @TinyJit
    def turn(y, losses, s):
        last = tape.h[LENGTH].contiguous()
        loss = model.dense(last).cross_entropy(y)
        model.dense.weight.grad, model.dense.bias.grad, dh = loss.gradient(model.dense.weight, model.dense.bias, last)
        written = losses[s : s + 1].assign(loss.reshape(1))
        Tensor.realize(written, tape.dh.assign(dh), model.dense.weight.grad, model.dense.bias.grad)

    @TinyJit
    def backward(piece):
        for token in reversed(tokens_of_piece):
            t = piece * len(tokens_of_piece) + token
            i, k, h = tape.i[t], tape.k[t], tape.h[t]
            di, dk, dh = gru.cell(i, k, h).gradient(i, k, h, gradient=tape.dh)
            tape.di[t : t + 1].assign(di.unsqueeze(0)).realize()
            tape.dk[t : t + 1].assign(dk.unsqueeze(0)).realize()
            tape.dh.assign((dh + tape.dk[t] @ gru.weight_hh).contiguous()).realize()

    @TinyJit
    @Context(TRAINING=1)
    def update(tokens):
        inputs = [gru.weight_ih, gru.bias_ih]
        de, *gradients = gru.from_input(tape.e).gradient(tape.e, *inputs, gradient=tape.di)
        embedding.grad = summed_by_token(de.flatten(0, 1), tokens.T.flatten(), embedding.shape[0], model.task.device)
        for weight, gradient in zip(inputs, gradients):
            weight.grad = gradient
        past = [gru.weight_hh, gru.bias_hh]
        for weight, gradient in zip(past, gru.from_past(tape.h[:LENGTH]).gradient(*past, gradient=tape.dk)):
            weight.grad = gradient
        Tensor.realize(*optimizer.schedule_step())

    # A piece's number is a variable of the kernels: one compiled piece serves all.
    count = LENGTH // len(tokens_of_piece)
    pieces = [UOp.variable("piece", 0, count - 1).bind(piece) for piece in range(count)]

    def train_batch(x, y, positions, losses, s):
        tokens, labels = take(x, y, positions, s)
        for piece in pieces:
            forward(piece)
        turn(labels, losses, s)
        for piece in reversed(pieces):
            backward(piece)
        update(tokens)

    def predict_batch(tokens):
        start(tokens)
        for piece in pieces:
            forward(piece)
        return scores()

    model.train_batch, model.predict_batch = train_batch, predict_batch
