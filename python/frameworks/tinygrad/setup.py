"""What the three tinygrad legs share: device, precision, putting weights in place, waiting."""

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tinygrad import Device, Tensor, UOp, dtypes
from tinygrad.helpers import ALLOW_TF32, DEFAULT_FLOAT, DEV

DTYPES = {"fp64": dtypes.float64, "fp32": dtypes.float32, "tf32": dtypes.float32}


def setup(task):
    """Obeys the task's device, seed and precision. tinygrad's CPU device runs its kernels on one thread."""
    DEV.value = task.device.upper()
    if task.device == "cuda" and "NVRTC_PATH" not in os.environ:
        find_nvrtc()
    # The type of new weights, of the optimizer's rate and of dropout's random numbers.
    DEFAULT_FLOAT.value = DTYPES[task.precision].name
    # Whether kernels for CUDA may use tensor cores for float32, whatever the variable in the user's environment says.
    ALLOW_TF32.value = int(task.precision == "tf32")
    Tensor.manual_seed(task.seed)


def find_nvrtc():
    """Shows tinygrad the compiler of kernels that NVIDIA's package brings.

    It looks in the system's folders alone, and where there is none it writes PTX by itself, without a word.
    """
    package = find_spec("nvidia")
    folders = map(Path, package.submodule_search_locations if package else [])
    for library in sorted(path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*")):
        # What is loaded is found by its name: the package's folder is not one of those where NVRTC looks for its other half.
        for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))
        os.environ["NVRTC_PATH"] = str(library)


def put(tensors, arrays):
    """Assigns in place: a captured TinyJit goes on with the buffers that it saw, so nothing is compiled again."""
    for tensor, array in zip(tensors, arrays):
        tensor.assign(Tensor(np.array(array), dtype=tensor.dtype))
    Tensor.realize(*tensors)


class Schedule:
    """For speed: the positions and the losses of a whole call of `train`, in buffers that the steps read and write.

    A step then is one replay, and all that Python gives it is its number.
    """

    def __init__(self, task):
        self.task, self.samples = task, 0

    def of(self, order, samples):
        """The positions [steps, batch] on the device, room for the losses, and the numbers of the steps."""
        rows = order.astype(np.int32).reshape(-1, self.task.batch)
        if samples != self.samples:
            most = samples // self.task.batch
            self.samples, self.losses = samples, Tensor.zeros(most, dtype=DTYPES[self.task.precision]).contiguous()
            self.positions = Tensor.zeros(most, self.task.batch, dtype="int32").contiguous()
            self.steps = [UOp.variable("t", 0, max(most - 1, 1)).bind(t) for t in range(most)]
        filled = np.zeros(self.positions.shape, np.int32)
        filled[: len(rows)] = rows
        put([self.positions, self.losses], [filled, np.zeros(self.losses.shape)])
        return self.positions, self.losses, self.steps[: len(rows)]


def parts(x, size):
    """Batches of `x`, each copied: what TinyJit replays wants a buffer of its own.

    Where a batch begins is a variable of the copying kernel, which as a number would be compiled anew for every batch.
    """
    for start in range(0, len(x), size):
        first = UOp.variable("first", 0, len(x) - size).bind(start)
        yield x[first : first + size].clone().realize()


# Synchronize
def synchronize(model):
    Device[Device.DEFAULT].synchronize()
