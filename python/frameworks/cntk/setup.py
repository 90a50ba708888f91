"""What the three CNTK legs share: device, precision, threads."""

import os
from pathlib import Path

# CNTK's pool has a thread for every core, whatever number it is told. With one thread those without work must not spin beside it. With more
# they must, for a millisecond: woken for each small product of the GRU they made a step more than fifty times as long.
os.environ["KMP_BLOCKTIME"] = "0" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"

import cntk as C
import numpy as np

DTYPES = {"fp64": np.float64, "fp32": np.float32}

# CNTK's MKL is of 2018 and runs on SSE wherever the processor is not Intel's. At its first product it reads this variable, which names
# the kernels for AVX2.
processor = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
if " avx2 " in processor and "GenuineIntel" not in processor:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def setup(task):
    """Obeys the task's threads, seed and device, and gives the type of all arrays."""
    C.device.try_set_default_device(C.device.cpu())
    C.cntk_py.set_max_num_cputhreads(task.threads)
    C.cntk_py.set_fixed_random_seed(task.seed)
    return DTYPES[task.precision]


def synchronize(model):
    pass
