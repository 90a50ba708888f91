"""MXNet Module: the CNN on CIFAR-10."""

from types import SimpleNamespace

import mxnet as mx
from optimizers import DoubleSGD
from setup import DTYPES, setup, synchronize  # noqa: F401


# Setup: the network is a graph of symbols, written before there is any data. A layer's parameters come into being with it,
# as conv1_weight and conv1_bias. Layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W).
def network(dropout):
    x = mx.sym.Variable("data")
    x = mx.sym.relu(convolution(x, 50, "conv1"))
    x = mx.sym.relu(pool(convolution(x, 50, "conv2")))
    x = mx.sym.Dropout(x, p=0.25 if dropout else 0)
    x = mx.sym.relu(convolution(x, 100, "conv3"))
    x = mx.sym.relu(pool(convolution(x, 100, "conv4")))
    x = mx.sym.Dropout(x, p=0.25 if dropout else 0)
    x = mx.sym.relu(mx.sym.FullyConnected(x, num_hidden=512, name="dense1"))
    x = mx.sym.Dropout(x, p=0.5 if dropout else 0)
    logits = mx.sym.FullyConnected(x, num_hidden=10, name="dense2")
    # Training starts from the outputs, so the loss is one of them; the scores are passed through without a gradient.
    # Along the last axis log_softmax is oneDNN's, 1e-6 off in float32; along the first it is MXNet's own, and exact.
    loss = -mx.sym.pick(mx.sym.log_softmax(logits.transpose(), axis=0), mx.sym.Variable("label"), axis=0)
    return mx.sym.Group([mx.sym.MakeLoss(loss), mx.sym.BlockGrad(logits)])


def convolution(x, width, name):
    return mx.sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=width, name=name)


def pool(x):
    return mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")


# Build
def build(task, weights):
    context, dtype = setup(task), DTYPES[task.precision]
    module = mx.mod.Module(network(task.dropout), label_names=["label"], context=context)
    # Binding gives the graph its memory, and every parameter the type that follows from that of the data.
    pictures = mx.io.DataDesc("data", (task.batch, 3, 32, 32), dtype)
    module.bind([pictures], [mx.io.DataDesc("label", (task.batch,), "int32")])
    model = SimpleNamespace(task=task, module=module, context=context, dtype=dtype)
    load(model, weights)
    return model


# Load
def load(model, weights):
    task = model.task
    parameters = {name.replace(".", "_"): mx.nd.array(array, dtype=model.dtype) for name, array in weights.items()}
    model.module.init_params(None, parameters, force_init=True)
    SGD = DoubleSGD if task.precision == "fp64" else mx.optimizer.SGD
    # The loss has one value a sample, whose gradients are summed: the optimizer divides them by the batch.
    optimizer = SGD(learning_rate=task.learning_rate, momentum=task.momentum, rescale_grad=1 / task.batch)
    # One device has no gradients to sum: no key-value store.
    model.module.init_optimizer(kvstore=None, optimizer=optimizer, force_init=True)


# Place
def place(model, array):
    return mx.nd.array(array, model.context, model.dtype if array.ndim == 4 else "int32")


# Train
def train(model, x, y, order):
    module, size = model.module, model.task.batch
    order = mx.nd.array(order, model.context, "int32")
    losses = []
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        module.forward(mx.io.DataBatch([x.take(batch)], [y.take(batch)]), is_train=True)
        module.backward()
        module.update()
        losses.append(module.get_outputs()[0].mean())
    return mx.nd.stack(*losses).asnumpy()


# Predict
def predict(model, x):
    module, size = model.module, model.task.batch
    scores = []
    for start in range(0, len(x), size):
        module.forward(mx.io.DataBatch([x[start : start + size]]), is_train=False)
        # The graph writes each batch's outputs to the same memory.
        scores.append(module.get_outputs()[1].copy())
    return mx.nd.concat(*scores, dim=0).asnumpy()


# Weights
def weights(model):
    parameters, _ = model.module.get_params()
    return {name.replace("_", "."): array.asnumpy() for name, array in parameters.items()}
