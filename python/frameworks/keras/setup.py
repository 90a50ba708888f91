"""What the three Keras legs share: precision, and the step of the backend that KERAS_BACKEND names.

The network, its weights and its optimizer are written once, in Keras. What a step is differs by backend: on_tensorflow.py,
on_jax.py and on_torch.py hold the same seven functions, because `Model.train_on_batch` reads its loss back after every step.
"""

import importlib

import keras
import numpy as np
from keras import ops
from keras.src.backend.common import dtypes

POLICIES = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "mixed_bfloat16"}

backend = importlib.import_module("on_" + keras.config.backend())


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
    # Channels last on every device: TensorFlow convolves in no other order on a CPU, PyTorch prefers it (Keras hands it a
    # permuted view, PyTorch's own `channels_last`), and XLA and TensorFlow choose a GPU's order by themselves.
    keras.config.set_image_data_format("channels_last")


def exact(number):
    """A hyperparameter that Keras on TensorFlow would read as float32, whatever the policy, were it a Python float."""
    return np.float64(number) if keras.config.floatx() == "float64" else number


def put(array):
    return backend.put(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)


def forget(optimizer, task):
    """Clears the optimizer's state: moments, the count of steps, and the learning rate, which it keeps in a variable too."""
    for variable in optimizer.variables:
        variable.assign(ops.zeros(variable.shape, variable.dtype))
    optimizer.learning_rate = task.learning_rate


def predict(model, x):
    # Read only when every batch has been queued.
    parts = [model.inference_step(x[start : start + model.task.batch]) for start in range(0, len(x), model.task.batch)]
    return np.concatenate([ops.convert_to_numpy(ops.cast(part, keras.config.floatx())) for part in parts])


def synchronize(model):
    backend.synchronize(model)
