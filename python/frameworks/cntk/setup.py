"""What the three CNTK legs share: device, precision, threads."""

import os

import cntk as C
import numpy as np
from numpy.core._multiarray_umath import __cpu_features__ as processor

DTYPES = {"fp64": np.float64, "fp32": np.float32}

# CNTK's MKL is of 2018 and runs on SSE wherever the processor is not Intel's. At its first product it reads this variable, which names
# the kernels for AVX2; where there is AVX-512, it is left to choose.
if processor["AVX2"] and not processor["AVX512F"]:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def setup(task):
    """Obeys the task's threads, seed and device, and gives the type of all arrays."""
    C.device.try_set_default_device(C.device.cpu())
    C.cntk_py.set_max_num_cputhreads(task.threads)
    C.cntk_py.set_fixed_random_seed(task.seed)
    return DTYPES[task.precision]


def synchronize(model):
    pass
