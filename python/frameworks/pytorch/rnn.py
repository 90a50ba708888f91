"""PyTorch: the GRU on IMDB."""

from functools import partial

import numpy as np
import torch
from setup import DTYPES, autocast, compile, forget, replayed, setup, synchronize  # noqa: F401
from torch import nn
from torch.nn import functional as F

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


class RNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30_000, 125)
        self.gru = nn.GRU(125, 100)
        self.dense = nn.Linear(100, 2)

    def forward(self, x, y=None):
        h = self.recur(self.embedding(x.T))  # time first, as the kernels take it
        scores = self.dense(h).to(self.dense.weight.dtype)
        return scores if y is None else F.cross_entropy(scores, y)

    @torch.compiler.disable  # left in sight of the compiler, an nn.GRU makes it give up all of `forward` without a word
    def recur(self, x):
        _, h = self.gru(x)
        return h[0]


# Build
def build(task, weights):
    device = setup(task)
    model = RNN().to(device, DTYPES[task.precision])
    model.task = task
    model.optimizer = torch.optim.Adam(
        model.parameters(),
        task.learning_rate,
        (task.beta1, task.beta2),
        task.epsilon,
        fused=True,
        capturable=task.graph,
    )
    # Two graphs, the embedding and the loss; between them the GRU runs as it is: cuDNN's kernel, or a loop in C++ on the CPU.
    compile(model, task)
    x, y = (place(model, np.zeros(shape, np.int64)) for shape in ((task.batch, 150), task.batch))
    model.step = replayed(partial(step, model), task, x, y)
    model.scores = replayed(partial(scores, model), task, x)
    load(model, weights)
    return model


# Load
def load(model, weights):
    model.load_state_dict({NAMES[name]: torch.tensor(array) for name, array in weights.items()})
    forget(model.optimizer)


# Place
def place(model, array):
    return torch.tensor(array).to(model.dense.weight.device)


# Train
def step(model, x, y):
    model.train()
    model.optimizer.zero_grad()
    with autocast(model.task):
        loss = model(x, y)
    loss.backward()
    model.optimizer.step()
    return loss.detach()


def train(model, x, y, order):
    batches = torch.as_tensor(order, device=y.device).split(model.task.batch)
    # A copy of each loss: the next replay of a CUDA graph overwrites its outputs.
    losses = [model.step(x[batch], y[batch]).clone() for batch in batches]
    return torch.stack(losses).cpu()


# Predict
@torch.no_grad()
def scores(model, x):
    model.eval()
    with autocast(model.task):
        return model(x)


def predict(model, x):
    return torch.cat([model.scores(part).clone() for part in x.split(model.task.batch)]).cpu()


# Weights
def weights(model):
    state = model.state_dict()
    return {name: state[own].detach().cpu().numpy().copy() for name, own in NAMES.items()}
