"""Keras on TensorFlow: traced functions that change the variables in place."""

from contextlib import nullcontext

import tensorflow as tf
from keras.optimizers import Adam  # noqa: F401

# TensorFlow convolves in no other order on a CPU, and chooses a GPU's by itself.
DATA_FORMAT = "channels_last"

STEPS_PER_EXECUTION = {"cpu": 1, "cuda": 1}


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

    @tf.function(jit_compile=xla)
    def forward(x):
        return model(x, training=False)

    model.training_step, model.inference_step = step, forward


def on_device(positions):
    return [tf.constant(rows) for rows in positions]


def training(model):
    return nullcontext(model.training_step)


def collect(losses):
    return losses


def synchronize(model):
    tf.test.experimental.sync_devices()
