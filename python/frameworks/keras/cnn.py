"""Keras 3: the CNN on CIFAR-10."""

import keras
from keras import layers
from setup import (  # noqa: F401
    backend,
    batches,
    exact,
    forget,
    picture,
    predict,
    put,
    setup,
    steps_per_execution,
    synchronize,
)

# Setup: a convolution's kernel is HWIO, a dense one [in, out], and Flatten sees H, W, C, whatever the order of the pictures.
LAYERS = ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")


def network(dropout):
    rate = 1.0 if dropout else 0.0
    return keras.Sequential(
        [
            layers.Input(picture(32)),
            layers.Conv2D(50, 3, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(50, 3, padding="same", name="conv2"),
            layers.MaxPooling2D(2),
            layers.ReLU(),
            layers.Dropout(0.25 * rate),
            layers.Conv2D(100, 3, padding="same", activation="relu", name="conv3"),
            layers.Conv2D(100, 3, padding="same", name="conv4"),
            layers.MaxPooling2D(2),
            layers.ReLU(),
            layers.Dropout(0.25 * rate),
            layers.Flatten(),
            layers.Dense(512, activation="relu", name="dense1"),
            layers.Dropout(0.5 * rate),
            layers.Dense(10, name="dense2"),
        ]
    )


# Build
def build(task, weights):
    setup(task)
    model = network(task.dropout)
    model.compile(
        # v = momentum v - rate g; w += v: the same path as PyTorch's while the rate is constant. A rate that is no function
        # becomes a variable, whose value Keras on PyTorch would read back from the GPU at every step.
        optimizer=keras.optimizers.SGD(lambda: exact(task.learning_rate), exact(task.momentum)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    model.task = task
    load(model, weights)
    backend.steps(model)
    return model


# Load
def load(model, weights):
    for name in LAYERS:
        kernel, bias = weights[name + ".weight"], weights[name + ".bias"]
        if name == "dense1":  # its inputs from C, H, W to H, W, C
            kernel = kernel.reshape(512, 100, 8, 8).transpose(0, 2, 3, 1).reshape(512, 6400)
        model.get_layer(name).set_weights([kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T, bias])
    forget(model.optimizer)


# Place
def place(model, array):
    return put(array)


# Train
def train(model, x, y, order):
    with backend.training(model) as step:
        losses = [step(x, y, batch) for batch in batches(model, order)]
    return backend.collect(losses)


# Predict: as for every Keras leg, in setup.py.


# Weights
def weights(model):
    canonical = {}
    for name in LAYERS:
        kernel, bias = model.get_layer(name).get_weights()
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        if name == "dense1":
            kernel = kernel.reshape(512, 8, 8, 100).transpose(0, 3, 1, 2).reshape(512, 6400)
        canonical[name + ".weight"], canonical[name + ".bias"] = kernel, bias
    return canonical
