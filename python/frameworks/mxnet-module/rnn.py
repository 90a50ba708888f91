"""MXNet Module: the GRU on IMDB."""

from types import SimpleNamespace

import mxnet as mx
import numpy as np
from optimizers import Adam, DoubleAdam
from setup import DTYPES, setup, synchronize  # noqa: F401

# Setup: the fused GRU is the canonical form (gates r, z, n; two biases; reset after the product), but it keeps its four
# parameters in one vector, one after the other.
GRU = {
    "gru.weight_ih": (300, 125),
    "gru.weight_hh": (300, 100),
    "gru.bias_ih": (300,),
    "gru.bias_hh": (300,),
}


def network(batch, dtype):
    x = mx.sym.Variable("data").transpose()  # time first
    x = mx.sym.Embedding(x, input_dim=30_000, output_dim=125, dtype=dtype, name="embedding")
    start = mx.sym.zeros((1, batch, 100), dtype)
    _, h = mx.sym.RNN(x, state=start, state_size=100, num_layers=1, mode="gru", state_outputs=True, name="gru")
    logits = mx.sym.FullyConnected(h.reshape((-1, 100)), num_hidden=2, name="dense")
    # Training starts from the outputs, so the loss is one of them; the scores are passed through without a gradient.
    # Along the last axis log_softmax is oneDNN's, 1e-6 off in float32; along the first it is MXNet's own, and exact.
    loss = -mx.sym.pick(mx.sym.log_softmax(logits.transpose(), axis=0), mx.sym.Variable("label"), axis=0)
    return mx.sym.Group([mx.sym.MakeLoss(loss), mx.sym.BlockGrad(logits)])


# Build
def build(task, weights):
    context, dtype = setup(task), DTYPES[task.precision]
    module = mx.mod.Module(network(task.batch, dtype), label_names=["label"], context=context)
    # Binding gives the graph its memory.
    tokens = mx.io.DataDesc("data", (task.batch, 150), "int32")
    module.bind([tokens], [mx.io.DataDesc("label", (task.batch,), "int32")])
    model = SimpleNamespace(task=task, module=module, context=context, dtype=dtype)
    load(model, weights)
    return model


# Load
def load(model, weights):
    task = model.task
    parameters = {name.replace(".", "_"): array for name, array in weights.items() if name not in GRU}
    parameters["gru_parameters"] = np.concatenate([weights[name].ravel() for name in GRU])
    parameters = {name: mx.nd.array(array, dtype=model.dtype) for name, array in parameters.items()}
    model.module.init_params(None, parameters, force_init=True)
    Exact = DoubleAdam if task.precision == "fp64" else Adam
    optimizer = (mx.optimizer.Adam if task.as_shipped else Exact)(
        learning_rate=task.learning_rate,
        beta1=task.beta1,
        beta2=task.beta2,
        epsilon=task.epsilon,
        # The loss has one value a sample, whose gradients are summed: the optimizer divides them by the batch.
        rescale_grad=1 / task.batch,
    )
    # One device has no gradients to sum: no key-value store.
    model.module.init_optimizer(kvstore=None, optimizer=optimizer, force_init=True)


# Place
def place(model, array):
    return mx.nd.array(array, model.context, "int32")


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
    parameters = {name: array.asnumpy() for name, array in parameters.items()}
    ends = np.cumsum([np.prod(shape) for shape in GRU.values()])
    parts = np.split(parameters.pop("gru_parameters"), ends[:-1])
    gru = {name: part.reshape(shape) for (name, shape), part in zip(GRU.items(), parts)}
    return {**{name.replace("_", "."): array for name, array in parameters.items()}, **gru}
