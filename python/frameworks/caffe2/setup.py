"""What the two Caffe2 legs share: devices, threads, the workspace."""

from collections import namedtuple
from itertools import count

import numpy as np
from caffe2.proto import caffe2_pb2
from caffe2.python import core, workspace

# Two devices on one processor: CPU, the plain operators, and IDEEP, the name for oneDNN, whose tensors have layouts of their own and
# which is several times faster. Operators that IDEEP lacks (Gather, Mul, WeightedSum ...) are the CPU's with copies around them.
CPU = core.DeviceOption(caffe2_pb2.CPU)
IDEEP = core.DeviceOption(caffe2_pb2.IDEEP)

Placed = namedtuple("Placed", "blob samples")
NUMBERS = count()


def setup(task):
    """Obeys the task's threads, and enters a new workspace: arrays (blobs) and nets are found by name, and each model needs its own."""
    # Level 3 hides the advice to compile Caffe2 for this processor: oneDNN chooses its code when it runs.
    workspace.GlobalInit(["caffe2", "--caffe2_log_level=3", "--caffe2_omp_num_threads=%d" % task.threads])
    name = "workspace_%d" % next(NUMBERS)
    workspace.SwitchWorkspace(name, True)
    for blob in ("x", "y", "batch"):
        workspace.CreateBlob(blob)
    return name


def place(model, array):
    """A blob in the model's workspace, under a name of its own."""
    workspace.SwitchWorkspace(model.workspace)
    placed = Placed("array_%d" % next(NUMBERS), len(array))
    workspace.FeedBlob(placed.blob, np.asarray(array, np.float32 if array.ndim == 4 else np.int32), CPU)
    return placed


def connect(model, **inputs):
    """Gives arrays the names that the nets gather their minibatches from: x and y. The memory is shared."""
    workspace.SwitchWorkspace(model.workspace)
    for name, placed in inputs.items():
        workspace.RunOperatorOnce(core.CreateOperator("Alias", [placed.blob], [name], device_option=CPU))


def run(net, batch, output):
    """One minibatch, at the positions `batch`; RunNet returns when it is done."""
    workspace.FeedBlob("batch", batch, CPU)
    workspace.RunNet(net)
    return workspace.FetchBlob(output)


def synchronize(model):
    pass
