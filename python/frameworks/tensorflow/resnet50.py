"""TensorFlow: ResNet-50 features, forward only."""

import tensorflow as tf
from setup import predict, setup, synchronize  # noqa: F401


# Setup: torchvision's network without its last dense layer, as functions of a dictionary of weights in torchvision's names.
class ResNet50(tf.Module):
    def __init__(self, task, weights):
        super().__init__()
        self.task = task
        self.dtype, self.compute_dtype = setup(task)
        # Kernels from OIHW to HWIO.
        arrays = {name: a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for name, a in weights.items()}
        self.weights = {
            name: tf.Variable(tf.cast(array, self.dtype), trainable=False) for name, array in arrays.items()
        }

    def features(self, x):
        x = tf.nn.relu(self.convolution(tf.cast(x, self.compute_dtype), "conv1", "bn1", 2))
        # Zeros serve as padding here too, since nothing is below zero behind the relu; XLA pads no pooling explicitly.
        x, padding = self.pad(x, 3, 2)
        x = tf.nn.max_pool2d(x, 3, 2, padding)
        for layer, blocks in enumerate((3, 4, 6, 3), start=1):
            for block in range(blocks):
                stride = 2 if block == 0 and layer > 1 else 1
                x = self.bottleneck(x, "layer%d.%d." % (layer, block), stride)
        return tf.reduce_mean(tf.cast(x, self.dtype), (1, 2))

    def bottleneck(self, x, name, stride):
        shortcut = x
        if name + "downsample.0.weight" in self.weights:
            shortcut = self.convolution(x, name + "downsample.0", name + "downsample.1", stride)
        x = tf.nn.relu(self.convolution(x, name + "conv1", name + "bn1", 1))
        x = tf.nn.relu(self.convolution(x, name + "conv2", name + "bn2", stride))
        return tf.nn.relu(self.convolution(x, name + "conv3", name + "bn3", 1) + shortcut)

    def convolution(self, x, convolution, norm, stride):
        kernel = tf.cast(self.weights[convolution + ".weight"], self.compute_dtype)
        x, padding = self.pad(x, kernel.shape[0], stride)
        x = tf.nn.conv2d(x, kernel, stride, padding)
        kinds = (".weight", ".bias", ".running_mean", ".running_var")
        scale, offset, mean, variance = (self.weights[norm + kind] for kind in kinds)
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, variance_epsilon=1e-5)

    def pad(self, x, size, stride):
        """Symmetric padding, as torch's: with a stride, "SAME" would pad one pixel more behind than before."""
        if size == 1 or stride == 1 or self.task.as_shipped:
            return x, "SAME"
        sides = (size // 2, size // 2)
        return tf.pad(x, ((0, 0), sides, sides, (0, 0))), "VALID"


# Build
def build(task, weights):
    model = ResNet50(task, weights)
    # XLA pays for convolutions on a GPU only.
    model.predict_batch = tf.function(model.features, jit_compile=task.device == "cuda")
    return model


# Place
def place(model, array):
    return tf.constant(array.transpose(0, 2, 3, 1), model.dtype)


# Predict: as for every TensorFlow leg, in setup.py.
