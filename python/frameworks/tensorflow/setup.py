"""What the three TensorFlow legs share: device, precision, threads."""

import numpy as np
import tensorflow as tf

DTYPES = {"fp64": tf.float64, "fp32": tf.float32, "tf32": tf.float32, "bf16": tf.float32}


def setup(task):
    """Obeys the task's threads, seed and precision; gives the type of the weights and the type of the computation.

    On a GPU the CNN's dropout has another seed: XLA heeds none of TensorFlow's.
    """
    if task.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("TensorFlow sees no GPU, and would compute on the CPU without a word")
    # Threads are fixed when TensorFlow's context starts, so a second build only compares.
    if tf.config.threading.get_intra_op_parallelism_threads() != task.threads:
        tf.config.threading.set_intra_op_parallelism_threads(task.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    # fp32 is float32: TF32 off, which TensorFlow has on by default.
    tf.config.experimental.enable_tensor_float_32_execution(task.precision == "tf32")
    tf.random.set_seed(task.seed)
    # bf16: weights and losses stay float32; the layers compute with copies cast to bfloat16.
    return DTYPES[task.precision], tf.bfloat16 if task.precision == "bf16" else DTYPES[task.precision]


def batches(model, order):
    return tf.unstack(tf.constant(np.reshape(order, (-1, model.task.batch))))


def predict(model, x):
    # Read only when every batch has been queued.
    parts = [model.predict_batch(part) for part in tf.split(x, len(x) // model.task.batch)]
    return np.concatenate([part.numpy() for part in parts])


def synchronize(model):
    tf.test.experimental.sync_devices()
