"""What the three Chainer legs share: the precisions, seed, waiting."""

import chainer
import numpy as np

DTYPES = {"fp64": np.float64, "fp32": np.float32}


def setup(task):
    """Obeys the task's precision and seed."""
    # On a CPU Chainer is NumPy: threads are those of NumPy's BLAS, told by the variables that the harness has set.
    chainer.config.dtype = DTYPES[task.precision]
    # Shapes and types need no check at every call: many small functions make up a time step of the GRU.
    chainer.config.type_check = False
    np.random.seed(task.seed)


def synchronize(model):
    """Nothing: NumPy has finished when it returns."""
