"""CNTK: the CNN on CIFAR-10."""

from types import SimpleNamespace

import cntk as C
import numpy as np
from cntk.layers import Convolution2D, Dense, Dropout, MaxPooling, Sequential
from setup import setup, synchronize  # noqa: F401


# Setup: a picture is [3, 32, 32]: shapes are written without the batch. Convolutions are OIHW, the canonical layout; a dense weight
# has the shape of its input in front, [C, H, W, out], so that nothing is flattened.
def network(dropout):
    return Sequential(
        [
            Convolution2D((3, 3), 50, C.relu, pad=True, name="conv1"),
            Convolution2D((3, 3), 50, pad=True, name="conv2"),
            MaxPooling((2, 2), strides=2),
            C.relu,
            Dropout(0.25 if dropout else 0),
            Convolution2D((3, 3), 100, C.relu, pad=True, name="conv3"),
            Convolution2D((3, 3), 100, pad=True, name="conv4"),
            MaxPooling((2, 2), strides=2),
            C.relu,
            Dropout(0.25 if dropout else 0),
            Dense(512, C.relu, name="dense1"),
            Dropout(0.5 if dropout else 0),
            Dense(10, name="dense2"),
        ]
    )


# Build
def build(task, weights):
    dtype = setup(task)
    with C.default_options(dtype=dtype):
        x, y = C.input_variable((3, 32, 32), name="x"), C.input_variable((), name="y")
        scores = network(task.dropout)(x)
        loss = C.cross_entropy_with_softmax(scores, C.one_hot(y, 10))
    model = SimpleNamespace(task=task, dtype=dtype, x=x, y=y, scores=scores)
    # By default, momentum_sgd multiplies the gradient by 1 - momentum.
    model.learner = C.momentum_sgd(scores.parameters, task.learning_rate, task.momentum, unit_gain=task.as_shipped)
    model.trainer = C.Trainer(None, loss, model.learner)
    load(model, weights)
    return model


# Load
def parameters(model):
    """Canonical name -> CNTK's parameter: each layer has a W and a b."""
    for layer in ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2"):
        block = model.scores.find_by_name(layer)
        yield layer + ".weight", block.W
        yield layer + ".bias", block.b


def load(model, weights):
    for name, parameter in parameters(model):
        array = weights[name].T if name.startswith("dense") else weights[name]
        parameter.value = np.array(array, model.dtype).reshape(parameter.shape)
    model.learner.reset_smoothed_gradients()


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
    arrays = {}
    for name, parameter in parameters(model):
        value, width = parameter.value, parameter.shape[-1]
        if name.startswith("dense"):
            arrays[name] = value.reshape(-1, width).T if name.endswith("weight") else value
        else:
            arrays[name] = value if name.endswith("weight") else value.ravel()
    return arrays
