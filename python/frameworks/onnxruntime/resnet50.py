"""ONNX Runtime: ResNet-50 features, forward only."""

from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
from export import export

# Setup: a runtime has no layers, it takes a finished graph: the PyTorch leg's network, exported to ONNX when it is
# built (../onnx/export.py). Pictures and weights keep PyTorch's layouts; inside, the CPU provider blocks the channels
# for its vector units and folds each batch norm into the convolution before it.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


# Build
def build(task, weights):
    options = ort.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_free_dimension_override_by_name("n", task.batch)
    settings = {}
    if task.device == "cuda":
        # Without this a graph that finds no GPU would run on the CPU, with no more than a warning.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # fp32 is float32: TF32 is on by default.
        settings["use_tf32"] = "1" if task.precision == "tf32" else "0"
        settings["cudnn_conv_algo_search"] = "EXHAUSTIVE"
        settings["prefer_nhwc"] = settings["use_tf32"]  # the order of tensor cores
        settings["enable_cuda_graph"] = "1"
    session = ort.InferenceSession(export(task, weights), options, [(PROVIDERS[task.device], settings)])
    model = SimpleNamespace(task=task, session=session, predict_batch=predict_batch)
    if task.device == "cuda":
        bind(model)
    return model


# For speed: a CUDA graph starts all kernels at once. It reads and writes where it did when it was captured, in the first run.
def bind(model):
    shapes = {"x": (model.task.batch, 3, 224, 224), "features": (model.task.batch, 2048)}
    model.x, model.features = (
        ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, model.task.device) for shape in shapes.values()
    )
    model.binding, model.predict_batch = model.session.io_binding(), replay
    model.binding.bind_ortvalue_input("x", model.x)
    model.binding.bind_ortvalue_output("features", model.features)


# Place: a session takes whole values and has no slices of its own, so the batches are parted here.
def place(model, array):
    parts = np.split(np.array(array), len(array) // model.task.batch)
    return [ort.OrtValue.ortvalue_from_numpy(part, model.task.device) for part in parts]


# Predict: bound to values on the device, nothing is copied to the processor between batches but the features.
def predict_batch(model, part):
    binding = model.session.io_binding()
    binding.bind_ortvalue_input("x", part)
    binding.bind_output("features", model.task.device)
    model.session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


def replay(model, part):
    model.x.update_inplace(part)
    model.binding.synchronize_inputs()
    model.session.run_with_iobinding(model.binding)
    return model.features.numpy().copy()  # the next run overwrites them


def predict(model, x):
    return np.concatenate([model.predict_batch(model, part) for part in x])


# Synchronize: a run returns when the device has finished.
def synchronize(model):
    pass
