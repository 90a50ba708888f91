"""What the three MLX legs share: device, precision, the optimizer's state, waiting."""

import os

import mlx.core as mx

DTYPES = {"fp32": mx.float32, "tf32": mx.float32}


def setup(task):
    """Obeys the task's device, seed and precision. The CPU backend has one thread, whatever the task's number."""
    # MLX multiplies float32 matrices in TF32 unless told otherwise, and asks once in a process.
    os.environ["MLX_ENABLE_TF32"] = "1" if task.precision == "tf32" else "0"
    # Arrays have no device in MLX, operations have: memory is shared.
    mx.set_default_device(mx.cpu if task.device == "cpu" else mx.gpu)
    mx.random.seed(task.seed)


def forget(model, fresh):
    """Puts a fresh optimizer's state in place of the old: the compiled step holds that very dictionary."""
    fresh.init(model.trainable_parameters())
    model.optimizer.state.update(fresh.state)
    mx.eval(model.parameters(), model.optimizer.state)


def put(array, dtype=None):
    """NumPy's memory is one that a GPU shares, whose pages come to it when a kernel first reads them: here, not in an epoch."""
    own = mx.array(array, dtype) + 0
    mx.eval(own)
    mx.synchronize()
    return own


# Synchronize
def synchronize(model):
    mx.synchronize()
