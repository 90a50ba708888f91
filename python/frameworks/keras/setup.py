"""What the three Keras legs share: precision, and the step of the backend that KERAS_BACKEND names.

The network, its weights and its optimizer are written once, in Keras. What a step is differs by backend: on_tensorflow.py,
on_jax.py and on_torch.py hold the same functions, because `Model.train_on_batch` reads its loss back after every step.
"""

import importlib

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import dtypes

POLICIES = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "mixed_bfloat16"}

backend = importlib.import_module("on_" + keras.config.backend())
CHANNELS = {"channels_last": -1, "channels_first": 1}[backend.DATA_FORMAT]
"""The axis of a picture's channels."""


def setup(task):
    """Obeys the task's threads, seed and precision."""
    backend.configure(task)
    keras.utils.set_random_seed(task.seed)
    # The network computes in the policy's type; weights, losses and optimizer keep floatx, float32 beside bfloat16.
    keras.config.set_floatx("float64" if task.precision == "fp64" else "float32")
    if keras.config.backend() != "tensorflow":
        # Elsewhere Keras's operators promote float64 to float32, also under a float64 policy: the proof lifts that.
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = keras.config.floatx()
    keras.config.set_dtype_policy(POLICIES[task.precision])
    keras.config.set_image_data_format(backend.DATA_FORMAT)


def exact(number):
    """A hyperparameter that Keras on TensorFlow would read as float32, whatever the policy, were it a Python float."""
    return np.float64(number) if keras.config.floatx() == "float64" else number


def picture(size):
    """The shape of a picture in the backend's order."""
    return (size, size, 3) if CHANNELS == -1 else (3, size, size)


def put(array):
    """An array on the device, pictures in the backend's order."""
    if array.ndim == 4 and CHANNELS == -1:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    return backend.put(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)


def steps_per_execution(model):
    """How many batches of `train` the backend hands to the device as one program: Keras's own word for it."""
    return backend.STEPS_PER_EXECUTION[model.task.device]


def batches(model, order):
    """The positions of each batch, on the device; of whole blocks [steps, batch] first where several steps are one program."""
    rows, steps = np.reshape(order, (-1, model.task.batch)), steps_per_execution(model)
    whole = len(rows) // steps * steps if steps > 1 else 0
    return backend.on_device([*rows[:whole].reshape(-1, steps, model.task.batch), *rows[whole:]])


def forget(optimizer):
    """Clears the optimizer's state: the moments and the count of steps. A learning rate may be among its variables, too."""
    for variable in optimizer.variables:
        if variable is not optimizer.learning_rate:
            variable.assign(ops.zeros(variable.shape, variable.dtype))


def predict(model, x):
    # Read only when every batch has been queued.
    parts = [model.inference_step(x[start : start + model.task.batch]) for start in range(0, len(x), model.task.batch)]
    return np.concatenate([ops.convert_to_numpy(ops.cast(part, keras.config.floatx())) for part in parts])


def synchronize(model):
    backend.synchronize(model)
