"""Keras on JAX: a pure step. The state leaves Keras's variables while a pass lasts, and its memory is donated from step to step."""

from contextlib import contextmanager
from functools import partial

import jax
import numpy as np
from keras.optimizers import Adam  # noqa: F401

MATMUL = {"fp64": "highest", "fp32": "highest", "tf32": "tensorfloat32", "bf16": None}

# XLA chooses a GPU's order by itself.
DATA_FORMAT = "channels_last"

# For speed: a GPU is done with a step of these networks before Python has started the next. On a CPU a step is long, and
# XLA computes convolutions more slowly inside a loop.
STEPS_PER_EXECUTION = {"cpu": 1, "cuda": 10}


def configure(task):
    jax.config.update("jax_platforms", task.device)  # without it, JAX computes on what it finds
    jax.config.update("jax_enable_x64", task.precision == "fp64")
    # By default JAX multiplies float32 matrices in TF32 on a GPU.
    jax.config.update("jax_default_matmul_precision", MATMUL[task.precision])


def put(array):
    return jax.block_until_ready(jax.device_put(array))


def steps(model):
    def loss(weights, others, x, y):
        scores, others = model.stateless_call(weights, others, x, training=True)
        return model.loss(y, scores), others

    def update(state, x, y, batch):
        weights, others, moments = state
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, others), gradients = gradient(weights, others, x[batch], y[batch])
        weights, moments = model.optimizer.stateless_apply(moments, gradients, weights)
        return (weights, others, moments), value

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, y, batch):
        if batch.ndim == 1:
            return update(state, x, y, batch)
        return jax.lax.scan(lambda state, row: update(state, x, y, row), state, batch)  # several batches

    @jax.jit
    def forward(weights, others, x):
        return model.stateless_call(weights, others, x, training=False)[0]

    model.training_step = step
    model.inference_step = lambda x: forward(*values(model.trainable_variables, model.non_trainable_variables), x)


def values(*groups):
    return tuple([variable.value for variable in group] for group in groups)


def on_device(positions):
    return jax.device_put(positions)


@contextmanager
def training(model):
    variables = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
    state = values(*variables)

    def step(x, y, batch):
        nonlocal state
        state, loss = model.training_step(state, x, y, batch)
        return loss

    yield step
    for group, new in zip(variables, state):
        for variable, value in zip(group, new):
            variable.assign(value)


def collect(losses):
    # Of single batches and of blocks: a list of them is no array.
    return np.concatenate([np.atleast_1d(loss) for loss in jax.device_get(losses)])


def synchronize(model):
    jax.block_until_ready(values(model.variables))
