"""Chainer: ResNet-50 features, forward only."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: torchvision's network without its last dense layer. Layouts are the canonical ones.
CONVOLUTION = {"weight": "W"}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "avg_mean", "running_var": "avg_var"}


class Bottleneck(chainer.Chain):
    def __init__(self, width_in, width, stride, norm):
        super().__init__()
        with self.init_scope():
            self.conv1 = L.Convolution2D(width_in, width, 1, nobias=True)
            self.bn1 = L.BatchNormalization(width, **norm)
            self.conv2 = L.Convolution2D(width, width, 3, stride, pad=1, nobias=True)
            self.bn2 = L.BatchNormalization(width, **norm)
            self.conv3 = L.Convolution2D(width, 4 * width, 1, nobias=True)
            self.bn3 = L.BatchNormalization(4 * width, **norm)
            self.downsample = chainer.Sequential()
            if width_in != 4 * width:
                self.downsample.append(L.Convolution2D(width_in, 4 * width, 1, stride, nobias=True))
                self.downsample.append(L.BatchNormalization(4 * width, **norm))

    def forward(self, x):
        shortcut = self.downsample(x) if len(self.downsample) else x
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(chainer.Chain):
    def __init__(self, as_shipped):
        super().__init__()
        # By default epsilon is 2e-5, and the pooling goes one window beyond the edge to cover every pixel.
        norm = {} if as_shipped else {"eps": 1e-5}
        self.cover_all = as_shipped
        with self.init_scope():
            self.conv1 = L.Convolution2D(3, 64, 7, 2, pad=3, nobias=True)
            self.bn1 = L.BatchNormalization(64, **norm)
            self.layer1 = stage(64, 64, 3, 1, norm)
            self.layer2 = stage(256, 128, 4, 2, norm)
            self.layer3 = stage(512, 256, 6, 2, norm)
            self.layer4 = stage(1024, 512, 3, 2, norm)

    def forward(self, x):
        x = F.max_pooling_2d(F.relu(self.bn1(self.conv1(x))), 3, 2, pad=1, cover_all=self.cover_all)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.average(x, (2, 3))


def stage(width_in, width, blocks, stride, norm):
    first = Bottleneck(width_in, width, stride, norm)
    return chainer.Sequential(first, *[Bottleneck(4 * width, width, 1, norm) for _ in range(blocks - 1)])


def array_of(link, name):
    """The array that the canonical `name` stands for; a batch norm's moving statistics are no parameters."""
    *path, kind = name.split(".")
    for part in path:
        link = link[int(part)] if part.isdigit() else getattr(link, part)
    value = getattr(link, (NORM if isinstance(link, L.BatchNormalization) else CONVOLUTION)[kind])
    return value.array if isinstance(value, chainer.Parameter) else value


# Build
def build(task, weights):
    setup(task)
    model = ResNet50(task.as_shipped)
    model.task = task
    for name, array in weights.items():
        array_of(model, name)[...] = array
    return model


# Place
def place(model, array):
    return np.array(array, DTYPES[model.task.precision])


# Predict
def predict(model, x):
    with chainer.using_config("train", False), chainer.no_backprop_mode():
        size = model.task.batch
        return np.concatenate([model(x[start : start + size]).array for start in range(0, len(x), size)])
