"""CNTK: the GRU on IMDB."""

from types import SimpleNamespace

import cntk as C
import numpy as np
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


class Adam:
    """Adam in CNTK's own operators, for a universal learner.

    The built-in one adds epsilon before the bias correction and, unless told minibatch_size=IGNORE, divides the rate by the batch:
    learners are made for gradients that are summed over it, where SGD wants that and Adam does not.
    """

    def __init__(self, task, dtype):
        self.task, self.dtype = task, dtype
        self.start = []  # (state, first value)

    def state(self, shape, value):
        self.start.append((C.constant(value, shape, dtype=self.dtype), value))
        return self.start[-1][0]

    def reset(self):
        for state, value in self.start:
            state.value = np.full(state.shape, value, self.dtype)

    def __call__(self, parameters, gradients):
        task = self.task
        power1, power2 = self.state((), 1), self.state((), 1)
        power1, power2 = C.assign(power1, task.beta1 * power1), C.assign(power2, task.beta2 * power2)
        updates = []
        for parameter, gradient in zip(parameters, gradients):
            gradient = gradient / task.batch  # it arrives as the sum over the batch
            mean, variance = self.state(parameter.shape, 0), self.state(parameter.shape, 0)
            mean = C.assign(mean, task.beta1 * mean + (1 - task.beta1) * gradient)
            variance = C.assign(variance, task.beta2 * variance + (1 - task.beta2) * gradient * gradient)
            step = mean / (C.sqrt(variance / (1 - power2)) + task.epsilon)
            updates.append(C.assign(parameter, parameter - task.learning_rate / (1 - power1) * step))
        return C.combine(updates)


# Build
def build(task, weights):
    dtype = setup(task)
    parameters = {name: C.parameter(shape, dtype=dtype) for name, shape in SHAPES.items()}
    with C.default_options(dtype=dtype):
        # A sequence axis of any length stands for the 150 tokens; their numbers are floats, as all values here.
        x, y = C.sequence.input_variable((), name="x"), C.input_variable((), name="y")
        scores = network(x, parameters)
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
def load(model, weights):
    for name, parameter in model.parameters.items():
        array = weights[name] if name == "embedding.weight" else weights[name].T
        parameter.value = np.array(array, model.dtype, order="C")
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
