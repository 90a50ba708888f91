"""What the MXNet legs of both APIs share: the device, the precisions, threads and waiting."""

import mxnet as mx

DTYPES = {"fp64": "float64", "fp32": "float32"}


def setup(task):
    """Obeys the task's seed, and gives the context: MXNet's word for a device."""
    # Threads are OpenMP's, whose number MXNet reads from OMP_NUM_THREADS when it is imported: the harness has set it.
    mx.random.seed(task.seed)
    return mx.cpu()


def synchronize(model):
    mx.nd.waitall()
