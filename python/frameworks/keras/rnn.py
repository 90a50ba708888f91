"""Keras 3: the GRU on IMDB."""

import keras
import numpy as np
from keras import layers, ops
from setup import (  # noqa: F401
    backend,
    batches,
    exact,
    forget,
    predict,
    put,
    setup,
    steps_per_execution,
    synchronize,
)

# Setup: `reset_after=True`, the default, is the canonical form with two biases, kept as one array [2, 3H]. The gates
# stand in the order z, r, h; kernels are [in, 3H].


class Adam(backend.Adam):
    """Adam with the epsilon of the paper's Algorithm 1, after the bias correction.

    Keras adds epsilon before it ("epsilon hat"): the same number, once it is scaled by sqrt(1 - beta2^t).
    """

    @property
    def epsilon(self):
        step = ops.cast(self.iterations + 1, keras.config.floatx())
        return self._epsilon * ops.sqrt(1 - ops.power(ops.cast(self.beta_2, step.dtype), step))

    @epsilon.setter
    def epsilon(self, value):
        self._epsilon = value


def network():
    return keras.Sequential(
        [
            layers.Input((150,), dtype="int32"),
            layers.Embedding(30_000, 125, name="embedding"),
            layers.GRU(100, name="gru"),
            layers.Dense(2, name="dense"),
        ]
    )


# Build
def build(task, weights):
    setup(task)
    model = network()
    optimizer = keras.optimizers.Adam if task.as_shipped else Adam
    model.compile(
        optimizer=optimizer(task.learning_rate, exact(task.beta1), exact(task.beta2), task.epsilon),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    model.task = task
    load(model, weights)
    backend.steps(model)
    return model


# Load
def swap(gates):
    """Exchanges the first two gates: r, z, n becomes z, r, h and back."""
    r, z, n = np.split(gates, 3)
    return np.concatenate([z, r, n])


def load(model, weights):
    embedding, gru, dense = (model.get_layer(name) for name in ("embedding", "gru", "dense"))
    embedding.set_weights([weights["embedding.weight"]])
    kernels = [swap(weights["gru.weight_" + side]).T for side in ("ih", "hh")]
    biases = [swap(weights["gru.bias_" + side]) for side in ("ih", "hh")]
    gru.set_weights([*kernels, np.stack(biases)])
    dense.set_weights([weights["dense.weight"].T, weights["dense.bias"]])
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
    (embedding,) = model.get_layer("embedding").get_weights()
    kernel_ih, kernel_hh, biases = model.get_layer("gru").get_weights()
    kernel, bias = model.get_layer("dense").get_weights()
    return {
        "embedding.weight": embedding,
        "gru.weight_ih": swap(kernel_ih.T),
        "gru.weight_hh": swap(kernel_hh.T),
        "gru.bias_ih": swap(biases[0]),
        "gru.bias_hh": swap(biases[1]),
        "dense.weight": kernel.T,
        "dense.bias": bias,
    }
