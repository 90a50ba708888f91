"""PyTorch: ResNet-50 features, forward only."""

from functools import partial

import numpy as np
import torch
from setup import DTYPES, compile, memory_format, replayed, setup, synchronize  # noqa: F401
from torch import nn
from torch.nn import functional as F


# Setup: torchvision's network without its last dense layer. PyTorch's layouts and names are the canonical ones.
class Bottleneck(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if width_in != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        shortcut = self.downsample(x) if self.downsample else x
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, 3, 1)
        self.layer2 = stage(256, 128, 4, 2)
        self.layer3 = stage(512, 256, 6, 2)
        self.layer4 = stage(1024, 512, 3, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


def stage(width_in, width, blocks, stride):
    first = Bottleneck(width_in, width, stride)
    return nn.Sequential(first, *[Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)])


# Build
def build(task, weights):
    device = setup(task)
    model = ResNet50()
    # Non-strict for `num_batches_tracked` alone, which counts training steps: the canonical weights have none.
    state = {name: torch.tensor(array) for name, array in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    faults = unexpected + [name for name in missing if not name.endswith("num_batches_tracked")]
    if faults:
        raise ValueError("weights do not fit: %s" % ", ".join(faults))
    # Nothing is trained, so bf16 needs no float32 weights beside it: they are cast here, once, instead of in every pass.
    dtype = torch.bfloat16 if task.precision == "bf16" else DTYPES[task.precision]
    model = model.eval().to(device, dtype, memory_format=memory_format(task))
    model.task = task
    # Freezing makes the weights constants of the graph: batch norms fold into convolutions, kernels are packed once.
    compile(model, task, freezing=True)
    example = place(model, np.zeros((task.batch, 3, 224, 224), np.float32))
    model.features = replayed(partial(features, model), task, example)
    return model


# Place
def place(model, array):
    weight = model.conv1.weight
    return torch.tensor(array).to(weight.device, weight.dtype, memory_format=memory_format(model.task))


# Predict
@torch.inference_mode()
def features(model, x):
    return model(x)


def predict(model, x):
    found = torch.cat([model.features(part).clone() for part in x.split(model.task.batch)])
    return found.to(DTYPES[model.task.precision]).cpu()
