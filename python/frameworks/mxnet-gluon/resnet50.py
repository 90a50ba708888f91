"""MXNet Gluon: ResNet-50 features, forward only."""

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: torchvision's network without its last dense layer. Gluon's own `resnet50_v1` has the stride in the first 1x1
# convolution of a block instead of the 3x3. Layouts are the canonical ones; BatchNorm's epsilon is 1e-5 as in PyTorch.
NORM_NAMES = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}


class Bottleneck(gluon.HybridBlock):
    def __init__(self, width_in, width, stride):
        super().__init__()
        with self.name_scope():
            self.conv1 = nn.Conv2D(width, 1, use_bias=False, in_channels=width_in)
            self.bn1 = nn.BatchNorm(in_channels=width)
            self.conv2 = nn.Conv2D(width, 3, stride, padding=1, use_bias=False, in_channels=width)
            self.bn2 = nn.BatchNorm(in_channels=width)
            self.conv3 = nn.Conv2D(4 * width, 1, use_bias=False, in_channels=width)
            self.bn3 = nn.BatchNorm(in_channels=4 * width)
            self.downsample = None
            if width_in != 4 * width:
                self.downsample = nn.HybridSequential()
                self.downsample.add(
                    nn.Conv2D(4 * width, 1, stride, use_bias=False, in_channels=width_in),
                    nn.BatchNorm(in_channels=4 * width),
                )

    def hybrid_forward(self, F, x):
        shortcut = self.downsample(x) if self.downsample else x
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv1 = nn.Conv2D(64, 7, 2, padding=3, use_bias=False, in_channels=3)
            self.bn1 = nn.BatchNorm(in_channels=64)
            self.pool = nn.MaxPool2D(3, 2, padding=1)
            self.layer1 = stage(64, 64, 3, 1)
            self.layer2 = stage(256, 128, 4, 2)
            self.layer3 = stage(512, 256, 6, 2)
            self.layer4 = stage(1024, 512, 3, 2)
            self.average = nn.GlobalAvgPool2D()

    def hybrid_forward(self, F, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.average(x).flatten()


def stage(width_in, width, blocks, stride):
    blocks = [Bottleneck(width_in, width, stride)] + [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
    layers = nn.HybridSequential()
    layers.add(*blocks)
    return layers


def parameter(block, name):
    """The parameter that the canonical `name` stands for; batch norms call their weight and bias gamma and beta."""
    *path, kind = name.split(".")
    for part in path:
        block = block[int(part)] if part.isdigit() else getattr(block, part)
    return getattr(block, NORM_NAMES[kind] if isinstance(block, nn.BatchNorm) else kind)


# Build
def build(task, weights):
    context = setup(task)
    model = ResNet50()
    model.task, model.context, model.dtype = task, context, DTYPES[task.precision]
    model.cast(model.dtype)
    model.initialize(ctx=context)
    for name, array in weights.items():
        parameter(model, name).set_data(mx.nd.array(array, dtype=model.dtype))
    # The graph is handed to oneDNN (then MKL-DNN), which folds batch norms and ReLUs into the convolutions: float32 only.
    backend = "MKLDNN" if task.precision == "fp32" else None
    model.hybridize(static_alloc=True, static_shape=True, backend=backend)
    return model


# Place
def place(model, array):
    return mx.nd.array(array, model.context, model.dtype)


# Predict
def predict(model, x):
    size = model.task.batch
    parts = [model(x[start : start + size]) for start in range(0, len(x), size)]
    return mx.nd.concat(*parts, dim=0).asnumpy()
