"""What the three PaddlePaddle legs share: device, precision, threads."""

import os
from pathlib import Path

import paddle

DTYPES = {"fp64": "float64", "fp32": "float32"}

# Paddle's wheel holds an old MKL that runs on SSE wherever the processor is not Intel's. At its first product it reads this variable,
# which names the kernels for AVX2.
processor = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
if " avx2 " in processor and "GenuineIntel" not in processor:
    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def setup(task):
    """Obeys the task's device, precision and seed.

    Threads are set before the start: the wheel uses one, whatever OpenMP's variables say, unless
    FLAGS_paddle_num_threads asks for more (framework.toml).
    """
    paddle.set_device(task.device)
    paddle.set_default_dtype(DTYPES[task.precision])  # of the layers that are built from here on
    paddle.seed(task.seed)


def synchronize(model):
    """Nothing to wait for: on the CPU every call returns when its work is done."""
