"""MLX: ResNet-50 features, forward only."""

import mlx.core as mx
import mlx.nn as nn
from setup import DTYPES, put, setup, synchronize  # noqa: F401


# Setup: torchvision's network without its last dense layer, channels last. Names and epsilon are the canonical ones.
class Bottleneck(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm(4 * width)
        if width_in != 4 * width:
            self.downsample = [nn.Conv2d(width_in, 4 * width, 1, stride, bias=False), nn.BatchNorm(4 * width)]

    def __call__(self, x):
        shortcut = x
        for layer in self.get("downsample", []):
            shortcut = layer(shortcut)
        x = nn.relu(self.bn1(self.conv1(x)))
        x = nn.relu(self.bn2(self.conv2(x)))
        return nn.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm(64)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = stage(64, 64, 3, 1)
        self.layer2 = stage(256, 128, 4, 2)
        self.layer3 = stage(512, 256, 6, 2)
        self.layer4 = stage(1024, 512, 3, 2)

    def __call__(self, x):
        x = self.pool(nn.relu(self.bn1(self.conv1(x))))
        for block in self.layer1 + self.layer2 + self.layer3 + self.layer4:
            x = block(x)
        return x.mean((1, 2))


# Lists, not nn.Sequential: its `layers` would stand in every weight's name.
def stage(width_in, width, blocks, stride):
    return [Bottleneck(width_in, width, stride)] + [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]


# Build
def build(task, weights):
    setup(task)
    dtype = DTYPES[task.precision]
    model = ResNet50()
    model.task = task
    # O, H, W, I
    own = {name: array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for name, array in weights.items()}
    model.load_weights([(name, mx.array(array, dtype)) for name, array in own.items()])
    model.eval()
    mx.eval(model.parameters())
    model.features = mx.compile(lambda x: model(x))
    return model


# Place
def place(model, array):
    return put(array.transpose(0, 2, 3, 1), DTYPES[model.task.precision])


# Predict
def predict(model, x):
    features = []
    for start in range(0, len(x), model.task.batch):
        features.append(model.features(x[start : start + model.task.batch]))
        mx.async_eval(features[-1])
    return mx.concatenate(features)
