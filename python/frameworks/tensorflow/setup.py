"""What the three TensorFlow legs share: device, precision, threads."""

import numpy as np
import tensorflow as tf

# For speed: how many batches are one program. A GPU is done with a step of these networks before Python has started the next;
# on a CPU a step is long.
STEPS_PER_EXECUTION = {"cpu": 1, "cuda": 10}

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


def steps_per_execution(model):
    """How many batches of `train` the leg hands to the device as one program."""
    return STEPS_PER_EXECUTION[model.task.device]


def batches(model, order):
    """The positions of each batch; of whole blocks [steps, batch] first where several steps are one program."""
    rows, steps = np.reshape(order, (-1, model.task.batch)), steps_per_execution(model)
    whole = len(rows) // steps * steps if steps > 1 else 0
    return [tf.constant(part) for part in [*rows[:whole].reshape(-1, steps, model.task.batch), *rows[whole:]]]


def looped(step, dtype):
    """A step that takes a block of batches, too: then it is a loop of the graph, and gives the block's losses."""

    @tf.function
    def loop(x, y, block):
        losses = tf.TensorArray(dtype, len(block))
        for number in tf.range(len(block)):  # AutoGraph makes it a loop of the graph
            losses = losses.write(number, step(x, y, block[number]))
        return losses.stack()

    return lambda x, y, batch: (loop if batch.shape.rank == 2 else step)(x, y, batch)


def joined(losses):
    return tf.concat([tf.reshape(loss, (-1,)) for loss in losses], 0)


def predict(model, x):
    # Read only when every batch has been queued.
    parts = [model.predict_batch(part) for part in tf.split(x, len(x) // model.task.batch)]
    return np.concatenate([part.numpy() for part in parts])


def synchronize(model):
    tf.test.experimental.sync_devices()
