"""PyTorch: the CNN on CIFAR-10."""

import torch
from setup import DTYPES, autocast, compile, setup, synchronize  # noqa: F401
from torch import nn
from torch.nn import functional as F


# Setup: PyTorch's layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W): nothing is permuted.
class CNN(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 50, 3, padding=1)
        self.conv2 = nn.Conv2d(50, 50, 3, padding=1)
        self.conv3 = nn.Conv2d(50, 100, 3, padding=1)
        self.conv4 = nn.Conv2d(100, 100, 3, padding=1)
        self.dense1 = nn.Linear(100 * 8 * 8, 512)
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
    # Channels last is the memory order that the convolution kernels of both CPU and GPU prefer.
    model = CNN(task.dropout).to(device, DTYPES[task.precision], memory_format=torch.channels_last)
    model.task = task
    load(model, weights)
    # The loss is in `forward` so that it is compiled too. The fused optimizer is one kernel already and stays outside.
    compile(model, task, **{"triton.cudagraphs": task.device == "cuda"})
    return model


# Load
def load(model, weights):
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    task = model.task
    model.optimizer = torch.optim.SGD(model.parameters(), task.learning_rate, task.momentum, fused=True)


# Place
def place(model, array):
    parameter = next(model.parameters())
    tensor = torch.tensor(array).to(parameter.device)
    return tensor.to(parameter.dtype, memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


# Train
def train(model, x, y, order):
    model.train()
    losses = []
    for batch in torch.as_tensor(order, device=y.device).split(model.task.batch):
        model.optimizer.zero_grad()
        with autocast(model.task):
            loss = model(x[batch], y[batch])
        loss.backward()
        model.optimizer.step()
        losses.append(loss.detach().clone())  # a copy: the next replay of a CUDA graph overwrites its outputs
    return torch.stack(losses).cpu()


# Predict
@torch.inference_mode()
def predict(model, x):
    model.eval()
    with autocast(model.task):
        return torch.cat([model(part).clone() for part in x.split(model.task.batch)]).cpu()


# Weights
def weights(model):
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}
