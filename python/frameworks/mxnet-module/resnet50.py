"""MXNet Module: ResNet-50 features, forward only."""

from types import SimpleNamespace

import mxnet as mx
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: torchvision's network without its last dense layer. Layers carry its names, so that the parameters that come
# into being with them are its weights but for the ends of their names. The moving statistics are no parameters here but
# auxiliary states.
ENDINGS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}


def network(norm):
    x = mx.sym.relu(convolution_norm(mx.sym.Variable("data"), 64, 7, 2, "conv1", "bn1", norm))
    x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    for number, (width, blocks, stride) in enumerate([(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)], 1):
        for block in range(blocks):
            x = bottleneck(x, width, stride if block == 0 else 1, f"layer{number}.{block}", norm)
    return mx.sym.Pooling(x, global_pool=True, pool_type="avg").flatten()


def bottleneck(x, width, stride, name, norm):
    shortcut = x
    if name.endswith(".0"):
        shortcut = convolution_norm(x, 4 * width, 1, stride, f"{name}.downsample.0", f"{name}.downsample.1", norm)
    x = mx.sym.relu(convolution_norm(x, width, 1, 1, f"{name}.conv1", f"{name}.bn1", norm))
    x = mx.sym.relu(convolution_norm(x, width, 3, stride, f"{name}.conv2", f"{name}.bn2", norm))
    return mx.sym.relu(convolution_norm(x, 4 * width, 1, 1, f"{name}.conv3", f"{name}.bn3", norm) + shortcut)


def convolution_norm(x, width, size, stride, name, norm_name, norm):
    shape = {"kernel": (size, size), "stride": (stride, stride), "pad": (size // 2, size // 2)}
    x = mx.sym.Convolution(x, num_filter=width, no_bias=True, name=name, **shape)
    return mx.sym.BatchNorm(x, name=norm_name, **norm)


def own_name(name):
    layer, kind = name.rsplit(".", 1)
    return f"{layer}_{ENDINGS[kind]}" if "bn" in layer or layer.endswith("downsample.1") else f"{layer}_{kind}"


# Build
def build(task, weights):
    context, dtype = setup(task), DTYPES[task.precision]
    # By default the symbol's gamma is held at 1, whatever the weights say, and its epsilon is 1e-3.
    norm = {} if task.as_shipped else {"fix_gamma": False, "eps": 1e-5}
    module = mx.mod.Module(network(norm), label_names=None, context=context)
    # Bound without training and in float32, the graph is handed to oneDNN (then MKL-DNN), which folds batch norms and
    # ReLUs into the convolutions.
    module.bind([mx.io.DataDesc("data", (task.batch, 3, 224, 224), dtype)], for_training=False)
    arrays = {own_name(name): mx.nd.array(array, dtype=dtype) for name, array in weights.items()}
    states = {name: arrays.pop(name) for name in module.symbol.list_auxiliary_states()}
    module.init_params(None, arrays, states)
    return SimpleNamespace(task=task, module=module, context=context, dtype=dtype)


# Place
def place(model, array):
    return mx.nd.array(array, model.context, model.dtype)


# Predict
def predict(model, x):
    module, size = model.module, model.task.batch
    features = []
    for start in range(0, len(x), size):
        module.forward(mx.io.DataBatch([x[start : start + size]]))
        # The graph writes each batch's outputs to the same memory.
        features.append(module.get_outputs()[0].copy())
    return mx.nd.concat(*features, dim=0).asnumpy()
