"""TensorFlow: the CNN on CIFAR-10."""

from functools import partial

import numpy as np
import tensorflow as tf
from setup import batches, joined, looped, predict, setup, steps_per_execution, synchronize  # noqa: F401

# Setup: pictures are NHWC, the only order of TensorFlow's convolutions on a CPU (on a GPU it chooses by itself);
# kernels are HWIO, and so the flattened features are H, W, C. For the dense layers, [out, in] is our own choice.


class CNN(tf.Module):
    def __init__(self, task, weights):
        super().__init__()
        self.task = task
        self.dtype, self.compute_dtype = setup(task)
        values = {name: tf.cast(array, self.dtype) for name, array in arranged(weights).items()}
        self.weights = {name: tf.Variable(value) for name, value in values.items()}
        self.momenta = {name: tf.Variable(tf.zeros_like(value)) for name, value in values.items()}

    def scores(self, x, training):
        weights = {name: tf.cast(weight, self.compute_dtype) for name, weight in self.weights.items()}

        def convolution(x, name):
            x = tf.nn.conv2d(x, weights[name + ".weight"], strides=1, padding="SAME")
            return tf.nn.bias_add(x, weights[name + ".bias"])

        def dense(x, name):
            return tf.nn.bias_add(tf.matmul(x, weights[name + ".weight"], transpose_b=True), weights[name + ".bias"])

        def dropout(x, rate):
            return tf.nn.dropout(x, rate) if training and self.task.dropout else x

        x = tf.nn.relu(convolution(tf.cast(x, self.compute_dtype), "conv1"))
        x = tf.nn.relu(tf.nn.max_pool2d(convolution(x, "conv2"), 2, 2, "VALID"))
        x = tf.nn.relu(convolution(dropout(x, 0.25), "conv3"))
        x = tf.nn.relu(tf.nn.max_pool2d(convolution(x, "conv4"), 2, 2, "VALID"))
        x = tf.reshape(dropout(x, 0.25), (-1, 8 * 8 * 100))
        x = dropout(tf.nn.relu(dense(x, "dense1")), 0.5)
        return tf.cast(dense(x, "dense2"), self.dtype)


# Build
def build(task, weights):
    model = CNN(task, weights)
    # XLA pays for convolutions on a GPU only.
    compiled = partial(tf.function, jit_compile=task.device == "cuda")
    model.step = looped(compiled(partial(step, model)), model.dtype)
    model.predict_batch = compiled(partial(model.scores, training=False))
    return model


# Load
def arranged(weights):
    """Canonical weights in TensorFlow's order: HWIO, the inputs of dense1 from C, H, W to H, W, C."""
    weights = dict(weights)
    weights["dense1.weight"] = weights["dense1.weight"].reshape(512, 100, 8, 8).transpose(0, 2, 3, 1).reshape(512, 6400)
    return {name: array.transpose(2, 3, 1, 0) if array.ndim == 4 else array for name, array in weights.items()}


def load(model, weights):
    for name, array in arranged(weights).items():
        model.weights[name].assign(tf.cast(array, model.dtype))
        model.momenta[name].assign(tf.zeros_like(model.momenta[name]))


# Place
def place(model, array):
    if array.ndim == 4:
        return tf.constant(array.transpose(0, 2, 3, 1), model.dtype)
    return tf.constant(array)


# Train
def step(model, x, y, batch):
    with tf.GradientTape() as tape:
        scores = model.scores(tf.gather(x, batch), training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, batch), scores)
        loss = tf.reduce_mean(losses)
    for name, gradient in tape.gradient(loss, model.weights).items():
        # v = momentum v + g; w -= rate v, in one fused operation.
        tf.raw_ops.ResourceApplyMomentum(
            var=model.weights[name].handle,
            accum=model.momenta[name].handle,
            lr=tf.constant(model.task.learning_rate, model.dtype),
            grad=gradient,
            momentum=tf.constant(model.task.momentum, model.dtype),
        )
    return loss


def train(model, x, y, order):
    return joined([model.step(x, y, batch) for batch in batches(model, order)])


# Predict: as for every TensorFlow leg, in setup.py.


# Weights
def weights(model):
    canonical = {}
    for name, weight in model.weights.items():
        array = weight.numpy()
        canonical[name] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    dense1 = canonical["dense1.weight"].reshape(512, 8, 8, 100).transpose(0, 3, 1, 2)
    canonical["dense1.weight"] = np.reshape(dense1, (512, 6400))
    return canonical
