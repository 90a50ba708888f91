"""Keras on TensorFlow: traced functions that change the variables in place."""

from contextlib import nullcontext

import keras
import tensorflow as tf
from keras.optimizers import Adam  # noqa: F401

# TensorFlow convolves in no other order on a CPU, and chooses a GPU's by itself.
DATA_FORMAT = "channels_last"

# For speed: a GPU is done with a step of these networks before Python has started the next. On a CPU a step is long.
STEPS_PER_EXECUTION = {"cpu": 1, "cuda": 10}


def configure(task):
    if task.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("TensorFlow sees no GPU, and would compute on the CPU without a word")
    # Threads are fixed when TensorFlow's context starts, so a second build only compares.
    if tf.config.threading.get_intra_op_parallelism_threads() != task.threads:
        tf.config.threading.set_intra_op_parallelism_threads(task.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_tensor_float_32_execution(task.precision == "tf32")


def put(array):
    return tf.constant(array)


def steps(model):
    # XLA pays for the many small operations of the GRU on a CPU, not for convolutions; on a GPU the other way round, where
    # the GRU is cuDNN's, which XLA cannot compile.
    xla = (model.task.device == "cuda") != (model.task.name == "rnn")
    weights = model.trainable_variables

    @tf.function(jit_compile=xla)
    def step(x, y, batch):
        with tf.GradientTape() as tape:
            loss = model.loss(tf.gather(y, batch), model(tf.gather(x, batch), training=True))
        gradients = tape.gradient(loss, weights)
        if not model.task.as_shipped:
            # An embedding's gradient lists a token as often as it occurs, and Adam would sum the squares of the pieces
            # instead of squaring their sum: made dense, the pieces are summed first.
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        model.optimizer.apply(gradients, weights)
        return loss

    @tf.function
    def block(x, y, batches):
        losses = tf.TensorArray(keras.config.floatx(), len(batches))
        for number in tf.range(len(batches)):  # AutoGraph makes it a loop of the graph
            losses = losses.write(number, step(x, y, batches[number]))
        return losses.stack()

    @tf.function(jit_compile=xla)
    def forward(x):
        return model(x, training=False)

    model.training_step = lambda x, y, batch: (block if batch.shape.rank == 2 else step)(x, y, batch)
    model.inference_step = forward


def on_device(positions):
    return [tf.constant(rows) for rows in positions]


def training(model):
    return nullcontext(model.training_step)


def collect(losses):
    return tf.concat([tf.reshape(loss, (-1,)) for loss in losses], 0)


def synchronize(model):
    tf.test.experimental.sync_devices()
