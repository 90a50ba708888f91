"""Caffe2: the CNN on CIFAR-10."""

from types import SimpleNamespace

import numpy as np
from caffe2.python import brew, core, model_helper, optimizer, workspace
from setup import CPU, IDEEP, connect, place, run, setup, synchronize  # noqa: F401

# Setup: layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W); brew names a layer's blobs LAYER_w and LAYER_b.
LAYERS = ["conv1", "conv2", "conv3", "conv4", "dense1", "dense2"]
NAMES = {"%s.%s" % (layer, kind): "%s_%s" % (layer, kind[0]) for layer in LAYERS for kind in ("weight", "bias")}

# Without training_mode, IDEEP's convolution reorders its weights once and never looks at them again: the scoring net needs it too.
ARGUMENTS = {"order": "NCHW", "training_mode": 1}


def network(net, task=None):
    x = net.net.Gather(["x", "batch"], "pictures")
    # The pictures need no gradient: Caffe2 would compute it.
    x = brew.conv(net, x, "conv1", 3, 50, kernel=3, pad=1, no_gradient_to_input=1)
    x = brew.relu(net, x, "relu1")
    x = brew.conv(net, x, "conv2", 50, 50, kernel=3, pad=1)
    x = brew.relu(net, brew.max_pool(net, x, "pool2", kernel=2, stride=2), "relu2")
    x = dropout(net, x, task, "dropout2", 0.25, (50, 16, 16))
    x = brew.relu(net, brew.conv(net, x, "conv3", 50, 100, kernel=3, pad=1), "relu3")
    x = brew.conv(net, x, "conv4", 100, 100, kernel=3, pad=1)
    x = brew.relu(net, brew.max_pool(net, x, "pool4", kernel=2, stride=2), "relu4")
    x = dropout(net, x, task, "dropout4", 0.25, (100, 8, 8))
    x = brew.relu(net, brew.fc(net, x, "dense1", 100 * 8 * 8, 512), "relu5")
    x = dropout(net, x, task, "dropout5", 0.5, (512,))
    return brew.fc(net, x, "dense2", 512, 10)


def dropout(net, x, task, name, ratio, shape):
    """IDEEP's own Dropout seeds itself from the clock, in seconds: steps share their mask. So the CPU's draws it, from ones."""
    if task is None or not task.dropout:
        return x
    seeded = core.DeviceOption(CPU.device_type, random_seed=task.seed + int(name[-1]))
    with core.DeviceScope(seeded):
        ones = net.param_init_net.ConstantFill([], name + "_ones", shape=(task.batch,) + shape, value=1.0)
        mask, _ = net.net.Dropout(ones, [name + "_mask", name + "_kept"], ratio=ratio, is_test=0)
        mask = net.net.StopGradient(mask, mask)
    return net.net.Mul([x, mask], name)


def sgd(net, task):
    """v = momentum v + g; w = w - rate v.

    IDEEP's MomentumSGDUpdate runs over the memory of a weight and its gradient as if both had one layout, which is wrong for
    convolutions; WeightedSum brings them into the canonical one.
    """
    numbers = {"one": 1.0, "momentum": task.momentum, "minus_rate": -task.learning_rate}
    one, momentum, minus_rate = [
        net.param_init_net.ConstantFill([], name, shape=[1], value=value) for name, value in numbers.items()
    ]
    for weight, gradient in net.param_to_grad.items():
        velocity = str(weight) + "_momentum"
        net.net.WeightedSum([velocity, momentum, gradient, one], velocity)
        net.net.WeightedSum([weight, one, velocity, minus_rate], weight)


# Build
def build(task, weights):
    model = SimpleNamespace(task=task, workspace=setup(task), device=CPU if task.as_shipped else IDEEP)
    net = model_helper.ModelHelper("training", arg_scope=ARGUMENTS)
    scoring = model_helper.ModelHelper("scoring", arg_scope=ARGUMENTS, init_params=False)
    with core.DeviceScope(model.device):
        scores = network(net, task)
        with core.DeviceScope(CPU):
            labels = net.net.Gather(["y", "batch"], "labels")
        _, loss = net.net.SoftmaxWithLoss([scores, labels], ["softmax", "loss"])
        net.AddGradientOperators([loss])
        if task.as_shipped:
            optimizer.build_sgd(net, task.learning_rate, policy="fixed", momentum=task.momentum)
        else:
            sgd(net, task)
        network(scoring)
    workspace.RunNetOnce(net.param_init_net)
    load(model, weights)
    workspace.CreateNet(net.net)
    workspace.CreateNet(scoring.net)
    model.training, model.scoring = net.net, scoring.net
    return model


# Load
def load(model, weights):
    workspace.SwitchWorkspace(model.workspace)
    for name, blob in NAMES.items():
        workspace.FeedBlob(blob, weights[name], model.device)
        workspace.FeedBlob(blob + "_momentum", np.zeros_like(weights[name]), model.device)


# Place: in setup.py.


# Train
def train(model, x, y, order):
    connect(model, x=x, y=y)
    return [run(model.training, batch, "loss") for batch in order.reshape(-1, model.task.batch)]


# Predict
def predict(model, x):
    connect(model, x=x)
    batches = np.arange(x.samples).reshape(-1, model.task.batch)
    return np.concatenate([run(model.scoring, batch, "dense2") for batch in batches])


# Weights
def weights(model):
    workspace.SwitchWorkspace(model.workspace)
    return {name: workspace.FetchBlob(blob) for name, blob in NAMES.items()}
