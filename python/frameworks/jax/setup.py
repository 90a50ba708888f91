"""What the three JAX legs share: device, precision, blocks of batches, synchronization."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

PRODUCTS = {"fp64": "highest", "fp32": "highest", "tf32": "tensorfloat32", "bf16": None}


def setup(task):
    """Obeys the task's device and precision, and gives what its layers are built with.

    Threads are set before the start: XLA's pool on the CPU has NPROC of them (framework.toml).
    """
    jax.config.update("jax_platforms", task.device)
    jax.config.update("jax_enable_x64", task.precision == "fp64")
    # JAX's default is TF32 wherever the GPU has it: fp32 asks for the whole of float32.
    jax.config.update("jax_default_matmul_precision", PRODUCTS[task.precision])
    weights = jnp.float64 if task.precision == "fp64" else jnp.float32
    # bf16 is Flax's mixed precision: weights stay float32, `dtype` is what the layers compute in.
    kind = {"param_dtype": weights, "dtype": jnp.bfloat16 if task.precision == "bf16" else weights}
    return SimpleNamespace(task=task, kind=kind, weights=weights)


def aligned(channels, task):
    """`channels`, or the next multiple of 8, which tensor cores want, on a GPU in tf32 or bf16.

    The channels beyond have weights of zero and stay so: their gradients are zero. Without them an epoch takes 1.5 times as
    long in bf16 on an H200.
    """
    return -(-channels // 8) * 8 if task.device == "cuda" and task.precision in ("tf32", "bf16") else channels


def widened(array, shape):
    """`array` in the corner of zeros of a shape that is larger."""
    return np.pad(array, [(0, size - own) for size, own in zip(shape, array.shape)])


STEPS_PER_EXECUTION = {"cpu": 1, "cuda": 10}
"""Batches that one compiled call takes. On a GPU, one call for each batch leaves the device waiting for Python; a CPU's are long."""


def steps_per_execution(model):
    return STEPS_PER_EXECUTION[model.task.device]


def blocks(model, order):
    """The positions of each compiled call, [batches, batch]; what is left over goes batch by batch."""
    batches = order.reshape(-1, model.task.batch)
    size = steps_per_execution(model)
    whole = len(batches) // size * size
    return [*batches[:whole].reshape(-1, size, model.task.batch), *batches[whole:, None]]


def in_turn(step, state, batches):
    """`step` of each batch in turn: (the last state, the values). One batch needs no loop, in which XLA's convolutions are slow on a CPU."""
    if len(batches) > 1:
        return jax.lax.scan(step, state, batches)
    state, value = step(state, batches[0])
    return state, value[None]


def synchronize(model):
    jax.block_until_ready(model.state)
