"""What the three JAX legs share: device, precision, synchronization."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp

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


def synchronize(model):
    jax.block_until_ready(model.state)
