"""The ceiling of a device: the best that a library's matrix product reaches on it, in one precision."""

import time
import traceback

from .job import Unavailable

SIZES = (2048, 4096, 8192)
TRY_SECONDS = 0.1
TRIES = 2
LONGEST = 0.25
"""Seconds that one product may take: a size that would take longer, eight times the last one's, is left out."""


def ceiling(job, events):
    """Multiplies in the first library that can, and reports its name and the best speed in 1e9 floating-point operations a second.

    Raises Unavailable with each library's reason where none can.
    """
    reasons = []
    for library in (pytorch, jax, tensorflow):
        try:
            name, product = library(job.task)
            gflops = best(product)
        except Exception as error:  # whatever is wrong with this one, another may multiply
            traceback.print_exc()
            reasons.append("%s: %s" % (library.__name__, (str(error).strip() or type(error).__name__).splitlines()[0]))
        else:
            events.send("ceiling", gflops=gflops, source="a matrix product in " + name)
            return
    raise Unavailable("; ".join(reasons))


def best(product):
    """The best of several sizes, layouts and tries: a ceiling wants the best, where a result wants the median.

    Args:
        product: (size, transposed) -> a function that multiplies so many times and returns when the device has finished.
    """
    found = 0.0
    for size in SIZES:
        for transposed in (False, True):  # some tensor cores want the second matrix the other way round
            multiply = product(size, transposed)
            multiply(1)  # compiles, and chooses a kernel
            once = seconds(multiply, 1)
            times = max(1, int(TRY_SECONDS / once))
            took = min(seconds(multiply, times) for _ in range(TRIES))
            found = max(found, 2 * size**3 * times / took / 1e9)
        if 8 * once > LONGEST:
            break
    return found


def seconds(multiply, times):
    start = time.perf_counter()
    multiply(times)
    return time.perf_counter() - start


# Each library gives its name and the `product` of `best`. The numbers are normal random ones: where the bits of zeros and ones stand still,
# a GPU needs less power and runs at a higher clock than on any real data.


def pytorch(task):
    import torch

    if task.device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("it sees no GPU")
    torch.set_num_threads(task.threads)
    torch.backends.cuda.matmul.allow_tf32 = task.precision == "tf32"
    dtype = {"fp64": torch.float64, "bf16": torch.bfloat16}.get(task.precision, torch.float32)

    def product(size, transposed):
        a, b = (torch.randn(size, size, device=task.device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)

        def multiply(times):
            for _ in range(times):
                torch.matmul(a, b.T if transposed else b, out=out)
            if task.device == "cuda":
                torch.cuda.synchronize()

        return multiply

    return "PyTorch " + torch.__version__, product


def jax(task):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", task.device)
    jax.config.update("jax_enable_x64", task.precision == "fp64")
    names = {"tf32": "tensorfloat32", "bf16": None}
    jax.config.update("jax_default_matmul_precision", names.get(task.precision, "highest"))
    dtype = {"fp64": jnp.float64, "bf16": jnp.bfloat16}.get(task.precision, jnp.float32)

    def product(size, transposed):
        a, b = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in range(2))
        matmul = jax.jit(lambda a, b: a @ (b.T if transposed else b))

        def multiply(times):
            for _ in range(times):
                out = matmul(a, b)
            out.block_until_ready()

        return multiply

    return "JAX " + jax.__version__, product


def tensorflow(task):
    import tensorflow as tf

    if task.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise Unavailable("it sees no GPU")
    tf.config.threading.set_intra_op_parallelism_threads(task.threads)
    tf.config.experimental.enable_tensor_float_32_execution(task.precision == "tf32")
    dtype = {"fp64": tf.float64, "bf16": tf.bfloat16}.get(task.precision, tf.float32)

    def product(size, transposed):
        a, b = (tf.random.normal((size, size), dtype=dtype) for _ in range(2))

        def multiply(times):
            for _ in range(times):
                tf.matmul(a, b, transpose_b=transposed)
            tf.test.experimental.sync_devices()

        return multiply

    return "TensorFlow " + tf.__version__, product
