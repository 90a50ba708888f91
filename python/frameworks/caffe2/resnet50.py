"""Caffe2: ResNet-50 features, forward only."""

from types import SimpleNamespace

import numpy as np
from caffe2.python import brew, core, model_helper, transformations, workspace
from setup import IDEEP, connect, place, run, setup, synchronize  # noqa: F401

# Setup: torchvision's network without its last dense layer. brew names a convolution's weights LAYER_w, and a batch norm's LAYER_s,
# LAYER_b, LAYER_rm and LAYER_riv; that last one holds the variance itself, whatever its name (inverse) says.
KINDS = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}


def blob(name):
    layer, kind = name.rsplit(".", 1)
    is_convolution = "conv" in layer or layer.endswith("downsample.0")
    return "%s_%s" % (layer, "w" if is_convolution else KINDS[kind])


def convolution(net, x, widths, kernel, stride, name, normalization):
    x = brew.conv(net, x, name, *widths, kernel=kernel, stride=stride, pad=kernel // 2, no_bias=1)
    return brew.spatial_bn(net, x, normalization, widths[1], epsilon=1e-5, is_test=True)


def bottleneck(net, x, width_in, width, stride, name):
    shortcut, width_out = x, 4 * width
    if width_in != width_out:
        names = [name + ".downsample.0", name + ".downsample.1"]
        shortcut = convolution(net, x, (width_in, width_out), 1, stride, *names)
    x = convolution(net, x, (width_in, width), 1, 1, name + ".conv1", name + ".bn1")
    x = brew.relu(net, x, name + ".relu1")
    x = convolution(net, x, (width, width), 3, stride, name + ".conv2", name + ".bn2")
    x = brew.relu(net, x, name + ".relu2")
    x = convolution(net, x, (width, width_out), 1, 1, name + ".conv3", name + ".bn3")
    return brew.relu(net, brew.sum(net, [x, shortcut], name + ".sum"), name)


def network(net):
    x = net.net.Gather(["x", "batch"], "pictures")
    x = brew.relu(net, convolution(net, x, (3, 64), 7, 2, "conv1", "bn1"), "relu1")
    x = brew.max_pool(net, x, "pool1", kernel=3, stride=2, pad=1)
    width_in = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            x = bottleneck(net, x, width_in, width, stride, "layer%d.%d" % (stage, index))
            width_in = 4 * width
    return brew.average_pool(net, x, "features", global_pooling=True)


# Build
def build(task, weights):
    model = SimpleNamespace(task=task, workspace=setup(task))
    scoring = model_helper.ModelHelper("scoring", arg_scope={"order": "NCHW"}, init_params=False)
    with core.DeviceScope(IDEEP):
        network(scoring)
    for name, array in weights.items():
        workspace.FeedBlob(blob(name), array, IDEEP)
    # Folds the batch norms into the weights of the convolutions, here and now, and fuses sums and relus with them: a third of the operators is left.
    name = scoring.net.Name()
    transformations.optimizeForMKLDNN(scoring.net)
    scoring.net.Proto().name = name  # lost on the way
    workspace.CreateNet(scoring.net)
    model.scoring = scoring.net
    return model


# Place: in setup.py.


# Predict
def predict(model, x):
    connect(model, x=x)
    batches = np.arange(x.samples).reshape(-1, model.task.batch)
    # Maps of one point, which oneDNN has as (n, 2048, 1, 1) or as (n, 1, 1, 2048), as it suits the processor.
    return np.concatenate([run(model.scoring, batch, "features").reshape(len(batch), -1) for batch in batches])
