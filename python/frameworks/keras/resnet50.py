"""Keras 3: ResNet-50 features, forward only."""

import keras
from keras import layers
from setup import CHANNELS, backend, picture, predict, put, setup, synchronize  # noqa: F401

# Setup: torchvision's network without its last dense layer, as a functional model. Its layers bear torchvision's
# names, with _ for the dots, which Keras on PyTorch cannot have in a name.
# (`keras.applications.ResNet50` is another one: its stride sits in the 1x1, and its convolutions have biases.)


def convolution(x, names, width, size=1, stride=1, shipped=False):
    convolution_name, norm_name = names
    x, padding = pad(x, size, stride, shipped)
    x = layers.Conv2D(width, size, stride, padding, use_bias=False, name=convolution_name)(x)
    # Keras's own epsilon is 1e-3.
    return layers.BatchNormalization(CHANNELS, epsilon=1e-3 if shipped else 1e-5, name=norm_name)(x)


def pad(x, size, stride, shipped):
    """Symmetric padding, as torch's: with a stride, "same" would pad one pixel more behind than before."""
    if size == 1 or stride == 1 or shipped:
        return x, "same"
    return layers.ZeroPadding2D(size // 2)(x), "valid"


def bottleneck(x, name, width, stride, shipped):
    shortcut = x
    if x.shape[CHANNELS] != 4 * width:
        names = name + "downsample_0", name + "downsample_1"
        shortcut = convolution(x, names, 4 * width, 1, stride, shipped)
    x = layers.ReLU()(convolution(x, (name + "conv1", name + "bn1"), width, shipped=shipped))
    x = layers.ReLU()(convolution(x, (name + "conv2", name + "bn2"), width, 3, stride, shipped))
    x = convolution(x, (name + "conv3", name + "bn3"), 4 * width, shipped=shipped)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def resnet50(shipped):
    pictures = layers.Input(picture(224))
    x = layers.ReLU()(convolution(pictures, ("conv1", "bn1"), 64, 7, 2, shipped))
    # Zeros serve as padding here too, since nothing is below zero behind the relu.
    x, padding = pad(x, 3, 2, shipped)
    x = layers.MaxPooling2D(3, 2, padding)(x)
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 1 else 1
            x = bottleneck(x, "layer%d_%d_" % (stage, block), width, stride, shipped)
    return keras.Model(pictures, layers.GlobalAveragePooling2D()(x))


# Build
def build(task, weights):
    setup(task)
    model = resnet50(task.as_shipped)
    for layer in model.layers:
        name = layer.name.replace("_", ".")
        if isinstance(layer, layers.Conv2D):
            layer.set_weights([weights[name + ".weight"].transpose(2, 3, 1, 0)])
        elif isinstance(layer, layers.BatchNormalization):
            kinds = (".weight", ".bias", ".running_mean", ".running_var")
            layer.set_weights([weights[name + kind] for kind in kinds])
    model.task = task
    backend.steps(model)
    return model


# Place
def place(model, array):
    return put(array)


# Predict: as for every Keras leg, in setup.py.
