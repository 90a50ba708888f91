"""JAX with Flax NNX: ResNet-50 features, forward only."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from setup import setup, synchronize  # noqa: F401

NAMES = {"running_mean": "mean", "running_var": "var"}


# Setup: torchvision's network without its last dense layer. Padding is symmetric, as torch's; Flax's own default, 'SAME',
# pads a stride of 2 on the right and below only. BatchNorm's epsilon is 1e-5 in both. Pictures are NHWC, kernels HWIO.
def convolution(width_in, width, size, stride, options):
    padding = "SAME" if options["same"] else size // 2
    return nnx.Conv(width_in, width, (size, size), stride, padding=padding, use_bias=False, **options["kind"])


def norm(width, options):
    return nnx.BatchNorm(width, use_running_average=True, **options["kind"])


class Bottleneck(nnx.Module):
    def __init__(self, width_in, width, stride, options):
        self.conv1 = convolution(width_in, width, 1, 1, options)
        self.bn1 = norm(width, options)
        self.conv2 = convolution(width, width, 3, stride, options)
        self.bn2 = norm(width, options)
        self.conv3 = convolution(width, 4 * width, 1, 1, options)
        self.bn3 = norm(4 * width, options)
        parts = convolution(width_in, 4 * width, 1, stride, options), norm(4 * width, options)
        self.downsample = nnx.Sequential(*parts) if width_in != 4 * width else None

    def __call__(self, x):
        shortcut = self.downsample(x) if self.downsample else x
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return nnx.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nnx.Module):
    def __init__(self, options):
        self.conv1 = convolution(3, 64, 7, 2, options)
        self.bn1 = norm(64, options)
        self.layer1 = stage(64, 64, 3, 1, options)
        self.layer2 = stage(256, 128, 4, 2, options)
        self.layer3 = stage(512, 256, 6, 2, options)
        self.layer4 = stage(1024, 512, 3, 2, options)
        self.padding = "SAME" if options["same"] else ((1, 1), (1, 1))

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.bn1(self.conv1(x))), (3, 3), (2, 2), self.padding)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((1, 2))


def stage(width_in, width, blocks, stride, options):
    first = Bottleneck(width_in, width, stride, options)
    return nnx.Sequential(first, *[Bottleneck(4 * width, width, 1, options) for _ in range(blocks - 1)])


# Build
def build(task, weights):
    model = setup(task)
    if task.precision == "bf16":
        # Nothing is trained: weights and pictures are cast here, once, instead of in every pass.
        model.weights = jnp.bfloat16
        model.kind = {"param_dtype": jnp.bfloat16, "dtype": jnp.bfloat16}
    # Shapes alone: to draw initial weights, JAX would compile a program for each layer.
    network = nnx.eval_shape(
        lambda: ResNet50({"same": task.as_shipped, "kind": {"rngs": nnx.Rngs(task.seed), **model.kind}})
    )
    for name, array in weights.items():
        *path, kind = name.split(".")
        layer = network
        for part in path:
            layer = layer.layers[int(part)] if part.isdigit() else getattr(layer, part)
        kernel = kind == "weight" and array.ndim == 4
        own = "kernel" if kernel else {"weight": "scale", **NAMES}.get(kind, kind)
        getattr(layer, own).set_value(jnp.asarray(array.transpose(2, 3, 1, 0) if kernel else array, model.weights))
    graph, state = nnx.split(network)
    model.state, structure = jax.tree.flatten(state)
    model.features = features(graph, structure)
    return model


# Place: a list of batches, so that what is compiled for one batch serves any number of them.
def place(model, array):
    pictures = jnp.asarray(array.transpose(0, 2, 3, 1), model.weights)
    starts = range(0, len(array), model.task.batch)
    return jax.block_until_ready([pictures[start : start + model.task.batch] for start in starts])


# Predict
@cache
def features(graph, structure):
    """The compiled network of a graph. To hash a graph takes longer than a batch on a GPU, so it is done once, here."""

    @jax.jit
    def forward(leaves, x):
        found = nnx.merge(graph, jax.tree.unflatten(structure, leaves))(x)
        return found.astype(jnp.promote_types(found.dtype, jnp.float32))  # NumPy has no bfloat16

    return forward


def predict(model, x):
    return np.concatenate([model.features(model.state, part) for part in x])
