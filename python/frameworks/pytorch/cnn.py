"""PyTorch: the CNN on CIFAR-10."""

from functools import partial

import numpy as np
import torch
from setup import DTYPES, aligned, autocast, compile, corner, fill, forget, memory_format, replayed, setup, synchronize  # noqa: F401
from torch import nn
from torch.nn import functional as F


# Setup: PyTorch's layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W): nothing is permuted.
class CNN(nn.Module):
    def __init__(self, dropout, few=50, many=100):
        super().__init__()
        self.conv1 = nn.Conv2d(3, few, 3, padding=1)
        self.conv2 = nn.Conv2d(few, few, 3, padding=1)
        self.conv3 = nn.Conv2d(few, many, 3, padding=1)
        self.conv4 = nn.Conv2d(many, many, 3, padding=1)
        self.dense1 = nn.Linear(many * 8 * 8, 512)
        self.dense2 = nn.Linear(512, 10)
        self.dropout_conv = nn.Dropout(0.25 if dropout else 0)
        self.dropout_dense = nn.Dropout(0.5 if dropout else 0)

    def forward(self, x, y=None):
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = self.dropout_conv(x)
        x = F.relu(self.conv3(x))
        x = F.relu(F.max_pool2d(self.conv4(x), 2))
        x = self.dropout_conv(x)
        x = F.relu(self.dense1(x.flatten(1)))
        scores = self.dense2(self.dropout_dense(x)).to(self.dense2.weight.dtype)
        return scores if y is None else F.cross_entropy(scores, y)


# Build
def build(task, weights):
    device = setup(task)
    model = CNN(task.dropout, aligned(50, task), aligned(100, task))
    model = model.to(device, DTYPES[task.precision], memory_format=memory_format(task))
    model.task, model.shapes = task, {name: array.shape for name, array in weights.items()}
    model.optimizer = torch.optim.SGD(model.parameters(), task.learning_rate, task.momentum, fused=True)
    # The loss is in `forward` so that it is compiled too. The fused optimizer is one kernel already and stays outside.
    compile(model, task)
    x = place(model, np.zeros((task.batch, 3, 32, 32), np.float32))
    y = place(model, np.zeros(task.batch, np.int64))
    model.step = replayed(partial(step, model), task, x, y)
    model.scores = replayed(partial(scores, model), task, x)
    load(model, weights)
    return model


# Load
def load(model, weights):
    fill(model, weights)
    forget(model.optimizer)


# Place
def place(model, array):
    parameter = next(model.parameters())
    tensor = torch.tensor(array).to(parameter.device)
    return tensor.to(parameter.dtype, memory_format=memory_format(model.task)) if tensor.ndim == 4 else tensor


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
    return {name: corner(state[name], shape).cpu().numpy().copy() for name, shape in model.shapes.items()}
