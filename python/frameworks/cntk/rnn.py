"""CNTK: the GRU on IMDB."""

from types import SimpleNamespace

import cntk as C
import numpy as np
from adam import Adam
from setup import setup, synchronize  # noqa: F401

# Setup: matrices are [in, out], the canonical ones transposed. CNTK's own GRU multiplies by the reset gate before the product and has
# one bias; the fused one that has two, optimized_rnnstack, exists on GPUs alone. So the cell is written out, as a step of a Fold.
SHAPES = {
    "embedding.weight": (30000, 125),
    "gru.weight_ih": (125, 300),
    "gru.weight_hh": (100, 300),
    "gru.bias_ih": (300,),
    "gru.bias_hh": (300,),
    "dense.weight": (100, 2),
    "dense.bias": (2,),
}


def network(x, parameters):
    embedding, weight_ih, weight_hh, bias_ih, bias_hh, weight, bias = parameters.values()

    def step(h, i):
        k = C.times(h, weight_hh) + bias_hh
        r = C.sigmoid(i[0:100] + k[0:100])
        z = C.sigmoid(i[100:200] + k[100:200])
        n = C.tanh(i[200:300] + r * k[200:300])
        return n + z * (h - n)

    # What does not depend on h is outside the step: one product for all tokens.
    i = C.times(C.gather(embedding, x), weight_ih) + bias_ih
    h = C.layers.Fold(step)(i)
    return C.times(h, weight) + bias


def network_as_shipped(x, parameters):
    """With CNTK's own GRU, which makes its parameters W, H, H1 and b itself."""
    embedding, weight, bias = parameters.values()
    h = C.layers.Fold(C.layers.GRU(100))(C.gather(embedding, x))
    parameters.update((parameter.name, parameter) for parameter in h.parameters if parameter.name)
    return C.times(h, weight) + bias


# Build
def build(task, weights):
    dtype = setup(task)
    names = [name for name in SHAPES if not (task.as_shipped and name.startswith("gru."))]
    parameters = {name: C.parameter(SHAPES[name], dtype=dtype) for name in names}
    with C.default_options(dtype=dtype):
        # A sequence axis of any length stands for the 150 tokens; their numbers are floats, as all values here.
        x, y = C.sequence.input_variable((), name="x"), C.input_variable((), name="y")
        scores = (network_as_shipped if task.as_shipped else network)(x, parameters)
        loss = C.cross_entropy_with_softmax(scores, C.one_hot(y, 2))
    model = SimpleNamespace(task=task, dtype=dtype, x=x, y=y, scores=scores, parameters=parameters)
    if task.as_shipped:
        model.learner = C.adam(scores.parameters, task.learning_rate, task.beta1, variance_momentum=task.beta2)
        model.reset = model.learner.reset_smoothed_gradients
    else:
        adam = Adam(task, dtype)
        model.learner = C.universal(lambda p, g: adam(p, g), scores.parameters)
        model.reset = adam.reset
    model.trainer = C.Trainer(None, loss, model.learner)
    load(model, weights)
    return model


# Load
def arranged(task, weights):
    """Canonical weights as [in, out]; for CNTK's own GRU the gates z, r, n, those of the past in two matrices, and one bias."""
    arrays = {name: array if name == "embedding.weight" else array.T for name, array in weights.items()}
    if task.as_shipped:
        gates = {
            kind: np.split(arrays.pop("gru." + kind), 3, -1)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        (r, z, n), (r_past, z_past, n_past) = gates["weight_ih"], gates["weight_hh"]
        r_bias, z_bias, n_bias = np.add(gates["bias_ih"], gates["bias_hh"])
        arrays["W"], arrays["b"] = np.hstack([z, r, n]), np.hstack([z_bias, r_bias, n_bias])
        arrays["H"], arrays["H1"] = np.hstack([z_past, r_past]), n_past
    return arrays


def load(model, weights):
    arrays = arranged(model.task, weights)
    for name, parameter in model.parameters.items():
        parameter.value = np.array(arrays[name], model.dtype, order="C")
    model.reset()


# Place: minibatches are NumPy arrays of the network's own type, which CNTK copies into the inputs of its graph.
def place(model, array):
    return np.array(array, model.dtype)


# Train
def train(model, x, y, order):
    losses = []
    for batch in order.reshape(-1, model.task.batch):
        model.trainer.train_minibatch({model.x: x[batch], model.y: y[batch]})
        losses.append(model.trainer.previous_minibatch_loss_average)
    return losses


# Predict
def predict(model, x):
    return np.concatenate([model.scores.eval({model.x: part}) for part in np.split(x, len(x) // model.task.batch)])


# Weights
def weights(model):
    return {
        name: parameter.value if name == "embedding.weight" else parameter.value.T
        for name, parameter in model.parameters.items()
    }
