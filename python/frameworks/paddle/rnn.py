"""PaddlePaddle: the GRU on IMDB."""

import paddle
from paddle import nn
from paddle.nn import functional as F
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: nn.GRU is the canonical form (gates r, z, n; two biases; reset after the product); only its names differ.
NAMES = {
    "embedding.weight": "embedding.weight",
    "gru.weight_ih": "gru.weight_ih_l0",
    "gru.weight_hh": "gru.weight_hh_l0",
    "gru.bias_ih": "gru.bias_ih_l0",
    "gru.bias_hh": "gru.bias_hh_l0",
    "dense.weight": "dense.weight",
    "dense.bias": "dense.bias",
}


class RNN(nn.Layer):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30_000, 125)
        self.gru = nn.GRU(125, 100)
        self.dense = nn.Linear(100, 2)

    def forward(self, x):
        _, h = self.gru(self.embedding(x))
        return self.dense(h[0])


# Build
def build(task, weights):
    setup(task)
    model = RNN()
    model.task = task
    load(model, weights)
    return model


# Load
def turned(name, array):
    """The dense weight from [out, in] to [in, out] or back; everything else as it is."""
    return array.T if name == "dense.weight" else array


def load(model, weights):
    task = model.task
    dtype = DTYPES[task.precision]
    state = model.state_dict()
    for name, own in NAMES.items():
        state[own].set_value(turned(name, weights[name]).astype(dtype))
    model.optimizer = paddle.optimizer.Adam(
        task.learning_rate, task.beta1, task.beta2, task.epsilon, parameters=model.parameters()
    )


# Place
def place(model, array):
    return paddle.to_tensor(array)


# Train
def train(model, x, y, order):
    model.train()
    losses = []
    for batch in paddle.to_tensor(order).split(len(order) // model.task.batch):
        loss = F.cross_entropy(model(x[batch]), y[batch])
        model.optimizer.clear_grad(set_to_zero=False)
        loss.backward()
        model.optimizer.step()
        losses.append(loss.detach())
    return paddle.stack(losses).numpy()


# Predict
@paddle.no_grad()
def predict(model, x):
    model.eval()
    return paddle.concat([model(part) for part in x.split(len(x) // model.task.batch)]).numpy()


# Weights
def weights(model):
    state = model.state_dict()
    return {name: turned(name, state[own].numpy()) for name, own in NAMES.items()}
