"""CNTK: ResNet-50 features, forward only."""

from types import SimpleNamespace

import cntk as C
import numpy as np
from cntk.layers import BatchNormalization, Convolution2D, GlobalAveragePooling, MaxPooling
from setup import setup, synchronize  # noqa: F401

# Setup: torchvision's network without its last dense layer; shapes are written without the batch. pad=True centres the kernel on the
# first pixel, also where the stride is 2: that is torch's padding for these sizes, and not the 'same' of TensorFlow.
KINDS = {"weight": "scale", "bias": "bias", "running_mean": "aggregate_mean", "running_var": "aggregate_variance"}


def convolution(x, width, kernel, stride, name, normalization):
    x = Convolution2D((kernel, kernel), width, strides=stride, pad=True, bias=False, name=name)(x)
    return BatchNormalization(map_rank=1, epsilon=1e-5, name=normalization)(x)


def bottleneck(x, width, stride, name):
    shortcut = x
    if x.shape[0] != 4 * width:
        shortcut = convolution(x, 4 * width, 1, stride, name + ".downsample.0", name + ".downsample.1")
    x = C.relu(convolution(x, width, 1, 1, name + ".conv1", name + ".bn1"))
    x = C.relu(convolution(x, width, 3, stride, name + ".conv2", name + ".bn2"))
    return C.relu(convolution(x, 4 * width, 1, 1, name + ".conv3", name + ".bn3") + shortcut)


def network(x):
    x = C.relu(convolution(x, 64, 7, 2, "conv1", "bn1"))
    x = MaxPooling((3, 3), strides=2, pad=True)(x)
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            x = bottleneck(x, width, stride, "layer%d.%d" % (stage, index))
    return C.reshape(GlobalAveragePooling()(x), 2048)


# Build
def build(task, weights):
    dtype = setup(task)
    with C.default_options(dtype=dtype):
        x = C.input_variable((3, 224, 224))
        features = network(x)
    for name, array in weights.items():
        layer, kind = name.rsplit(".", 1)
        block = features.find_by_name(layer)
        # A convolution has a W; what a batch norm has is in KINDS.
        value = getattr(block, "W" if array.ndim == 4 else KINDS[kind])
        value.value = np.array(array, dtype)
    return SimpleNamespace(task=task, dtype=dtype, x=x, features=features)


# Place: minibatches are NumPy arrays of the network's own type, which CNTK copies into the inputs of its graph.
def place(model, array):
    return np.array(array, model.dtype)


# Predict
def predict(model, x):
    return np.concatenate([model.features.eval({model.x: part}) for part in np.split(x, len(x) // model.task.batch)])
