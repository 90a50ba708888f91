"""MXNet Gluon: the CNN on CIFAR-10."""

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn
from optimizers import DoubleSGD
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: MXNet's layouts are the canonical ones (OIHW, [out, in], flatten as C, H, W): nothing is permuted.
NAMES = [
    f"{layer}.{kind}"
    for layer in ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")
    for kind in ("weight", "bias")
]


class CNN(gluon.HybridBlock):
    def __init__(self, dropout):
        super().__init__()
        with self.name_scope():
            self.conv1 = nn.Conv2D(50, 3, padding=1, in_channels=3)
            self.conv2 = nn.Conv2D(50, 3, padding=1, in_channels=50)
            self.conv3 = nn.Conv2D(100, 3, padding=1, in_channels=50)
            self.conv4 = nn.Conv2D(100, 3, padding=1, in_channels=100)
            self.dense1 = nn.Dense(512, in_units=100 * 8 * 8)
            self.dense2 = nn.Dense(10, in_units=512)
            self.pool = nn.MaxPool2D(2)
            self.dropout_conv = nn.Dropout(0.25 if dropout else 0)
            self.dropout_dense = nn.Dropout(0.5 if dropout else 0)

    # F is mx.nd when the block runs eagerly and mx.sym when it is traced into a graph: one text serves both.
    def hybrid_forward(self, F, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.pool(self.conv2(x)))
        x = self.dropout_conv(x)
        x = F.relu(self.conv3(x))
        x = F.relu(self.pool(self.conv4(x)))
        x = self.dropout_conv(x)
        x = F.relu(self.dense1(x))  # Dense flattens by itself
        return self.dense2(self.dropout_dense(x))


# Build
def build(task, weights):
    context = setup(task)
    model = CNN(task.dropout)
    model.task, model.context, model.dtype = task, context, DTYPES[task.precision]
    model.cast(model.dtype)
    model.initialize(ctx=context)
    # Along the last axis log_softmax is oneDNN's, 1e-6 off in float32; along the first it is MXNet's own, and exact.
    model.loss = gluon.loss.SoftmaxCrossEntropyLoss(axis=0, batch_axis=1)
    # Network and loss, its child now, become graphs whose memory is planned once, at the first batch.
    model.hybridize(static_alloc=True, static_shape=True)
    load(model, weights)
    return model


# Load
def parameter(model, name):
    layer, kind = name.split(".")
    return getattr(getattr(model, layer), kind)


def load(model, weights):
    task = model.task
    for name, array in weights.items():
        parameter(model, name).set_data(mx.nd.array(array, dtype=model.dtype))
    SGD = DoubleSGD if task.precision == "fp64" else mx.optimizer.SGD
    optimizer = SGD(learning_rate=task.learning_rate, momentum=task.momentum)
    # One device has no gradients to sum: no key-value store.
    model.trainer = gluon.Trainer(model.collect_params(), optimizer, kvstore=None)


# Place
def place(model, array):
    return mx.nd.array(array, model.context, model.dtype if array.ndim == 4 else "int32")


# Train
def train(model, x, y, order):
    size = model.task.batch
    order = mx.nd.array(order, model.context, "int32")
    losses = []
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        with autograd.record():
            loss = model.loss(model(x.take(batch)).T, y.take(batch))
        # One loss a sample: backward() sums them, step() divides the gradients by the batch.
        loss.backward()
        model.trainer.step(size)
        losses.append(loss.mean())
    return mx.nd.stack(*losses).asnumpy()


# Predict
def predict(model, x):
    size = model.task.batch
    parts = [model(x[start : start + size]) for start in range(0, len(x), size)]
    return mx.nd.concat(*parts, dim=0).asnumpy()


# Weights
def weights(model):
    return {name: parameter(model, name).data().asnumpy() for name in NAMES}
