"""PaddlePaddle: ResNet-50 features, forward only."""

import paddle
from paddle import nn
from paddle.nn import functional as F
from setup import DTYPES, setup, synchronize  # noqa: F401

NAMES = {"running_mean": "_mean", "running_var": "_variance"}


# Setup: torchvision's network without its last dense layer. Layouts are the canonical ones; only the names of a batch norm's
# running statistics differ. `bias_attr=False` is PyTorch's `bias=False`; BatchNorm's epsilon is 1e-5 in both.
class Bottleneck(nn.Layer):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2D(width_in, width, 1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2D(width, width, 3, stride, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.conv3 = nn.Conv2D(width, 4 * width, 1, bias_attr=False)
        self.bn3 = nn.BatchNorm2D(4 * width)
        self.downsample = None
        if width_in != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2D(width_in, 4 * width, 1, stride, bias_attr=False), nn.BatchNorm2D(4 * width)
            )

    def forward(self, x):
        shortcut = self.downsample(x) if self.downsample else x
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 64, 7, 2, padding=3, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(64)
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
    setup(task)
    model = ResNet50()
    state = {}
    for name, array in weights.items():
        path, _, kind = name.rpartition(".")
        state["%s.%s" % (path, NAMES.get(kind, kind))] = array.astype(DTYPES[task.precision])
    missing, unexpected = model.set_state_dict(state)
    if missing or unexpected:
        raise ValueError("weights do not fit: %s" % ", ".join([*missing, *unexpected]))
    model.eval()
    model.task = task
    return model


# Place
def place(model, array):
    return paddle.to_tensor(array, model.conv1.weight.dtype)


# Predict
@paddle.no_grad()
def predict(model, x):
    return paddle.concat([model(part) for part in x.split(len(x) // model.task.batch)]).numpy()
