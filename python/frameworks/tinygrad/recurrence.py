"""The loop over time of tinygrad's GRU: one compiled piece forward and one backward, replayed until all tokens are done."""

from tinygrad import Context, Tensor, TinyJit, UOp

LENGTH = 150

# For speed: how many tokens a piece takes. Python needs longer for a replay than a GPU for a token, and each further token of a
# piece is compiled anew, because its number stands in its kernels.
TOKENS = {"cpu": 1, "cuda": 5}


class Tape:
    """What the steps read and write, time first: the products of input and past, the states, and their gradients."""

    def __init__(self, batch, units):
        self.i, self.k, self.di, self.dk = (Tensor.zeros(LENGTH, batch, 3 * units).contiguous() for _ in range(4))
        self.h, self.dh = Tensor.zeros(LENGTH + 1, batch, units).contiguous(), Tensor.zeros(batch, units).contiguous()
        Tensor.realize(self.i, self.k, self.di, self.dk, self.h, self.dh)


def compile_parts(model):
    """Each part runs as it is the first time, is captured the second, and replayed from the third on."""
    gru, tape, optimizer = model.gru, Tape(model.task.batch, model.gru.units), model.optimizer
    tokens_of_piece = range(TOKENS[model.task.device])
    # A one-hot product over the whole vocabulary is how tinygrad sums an embedding's gradient, unless it is told to add
    # up in place: it can do that on a CPU, and on AMD's GPUs.
    in_place = Context(USE_ATOMICS=int(model.task.device == "cpu"))

    def project(tokens):
        with in_place:
            return gru.from_input(model.embedding(tokens.T))

    @TinyJit
    def take(x, y, positions, s):
        batch = positions[s]
        tokens, labels = x[batch].realize(), y[batch].realize()
        tape.i.assign(project(tokens)).realize()
        return tokens, labels

    @TinyJit
    def start(tokens):
        tape.i.assign(project(tokens)).realize()

    @TinyJit
    def forward(piece):
        for token in tokens_of_piece:
            t = piece * len(tokens_of_piece) + token
            h = tape.h[t]
            k = gru.from_past(h).contiguous()
            after = gru.cell(tape.i[t], k, h)
            Tensor.realize(tape.k[t : t + 1].assign(k.unsqueeze(0)), tape.h[t + 1 : t + 2].assign(after.unsqueeze(0)))

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
