"""MXNet Gluon: the GRU on IMDB."""

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn, rnn
from optimizers import Adam, DoubleAdam
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: Gluon's fused GRU is the canonical form (gates r, z, n; two biases; reset after the product).
NAMES = {
    "embedding.weight": "embedding.weight",
    "gru.weight_ih": "gru.l0_i2h_weight",
    "gru.weight_hh": "gru.l0_h2h_weight",
    "gru.bias_ih": "gru.l0_i2h_bias",
    "gru.bias_hh": "gru.l0_h2h_bias",
    "dense.weight": "dense.weight",
    "dense.bias": "dense.bias",
}


class RNN(gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.embedding = nn.Embedding(30_000, 125)
            self.gru = rnn.GRU(100, input_size=125)  # layout TNC: time first
            self.dense = nn.Dense(2, in_units=100)

    def hybrid_forward(self, F, x):
        outputs = self.gru(self.embedding(x.transpose()))
        last = F.slice_axis(outputs, axis=0, begin=-1, end=None)
        return self.dense(last.squeeze(axis=0))


# Build
def build(task, weights):
    context = setup(task)
    model = RNN()
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
    layer, own = NAMES[name].split(".")
    return getattr(getattr(model, layer), own)


def load(model, weights):
    task = model.task
    for name, array in weights.items():
        parameter(model, name).set_data(mx.nd.array(array, dtype=model.dtype))
    settings = dict(learning_rate=task.learning_rate, beta1=task.beta1, beta2=task.beta2, epsilon=task.epsilon)
    Exact = DoubleAdam if task.precision == "fp64" else Adam
    optimizer = (mx.optimizer.Adam if task.as_shipped else Exact)(**settings)
    # One device has no gradients to sum: no key-value store.
    model.trainer = gluon.Trainer(model.collect_params(), optimizer, kvstore=None)


# Place
def place(model, array):
    return mx.nd.array(array, model.context, "int32")


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
