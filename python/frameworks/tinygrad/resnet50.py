"""tinygrad: ResNet-50 features, forward only."""

import numpy as np
from setup import DTYPES, put, setup, synchronize  # noqa: F401
from tinygrad import Tensor, TinyJit, nn


# Setup: torchvision's network without its last dense layer. Layouts, names and epsilon are the canonical ones.
class Bottleneck:
    def __init__(self, width_in, width, stride):
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm(4 * width)
        self.downsample = []
        if width_in != 4 * width:
            self.downsample = [nn.Conv2d(width_in, 4 * width, 1, stride, bias=False), nn.BatchNorm(4 * width)]

    def __call__(self, x):
        shortcut = x.sequential(self.downsample)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return (self.bn3(self.conv3(x)) + shortcut).relu()


class ResNet50:
    def __init__(self):
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm(64)
        self.layer1 = stage(64, 64, 3, 1)
        self.layer2 = stage(256, 128, 4, 2)
        self.layer3 = stage(512, 256, 6, 2)
        self.layer4 = stage(1024, 512, 3, 2)

    def __call__(self, x):
        x = self.bn1(self.conv1(x)).relu().max_pool2d(3, 2, padding=1)
        return x.sequential(self.layer1 + self.layer2 + self.layer3 + self.layer4).mean((2, 3))


def stage(width_in, width, blocks, stride):
    return [Bottleneck(width_in, width, stride)] + [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]


# Build
def build(task, weights):
    setup(task)
    model = ResNet50()
    model.task = task
    # All but `num_batches_tracked`, which counts training steps: the canonical weights have none.
    state = {name: w for name, w in nn.state.get_state_dict(model).items() if not name.endswith("num_batches_tracked")}
    if sorted(state) != sorted(weights):
        raise ValueError("weights do not fit: %s" % ", ".join(sorted(set(state) ^ set(weights))))
    put(state.values(), [weights[name] for name in state])
    model.features = TinyJit(lambda x: model(x).realize())
    return model


# Place: a list of batches. A slice's kernel would be compiled for each place that it begins at.
def place(model, array):
    parts = np.split(np.array(array), len(array) // model.task.batch)
    return [Tensor(part, dtype=DTYPES[model.task.precision]).realize() for part in parts]


# Predict
def predict(model, x):
    # The next replay overwrites what this one returns.
    return Tensor.cat(*[model.features(part).clone().realize() for part in x]).numpy()
