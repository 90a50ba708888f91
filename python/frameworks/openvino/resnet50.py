"""OpenVINO: ResNet-50 features, forward only."""

from types import SimpleNamespace

import numpy as np
import openvino as ov
from export import export

# Setup: a runtime has no layers, it takes a finished graph: the PyTorch leg's network, exported to ONNX when it is
# built (../onnx/export.py). Pictures and weights keep PyTorch's layouts; inside, the CPU plugin blocks the channels
# for its vector units and folds each batch norm into the convolution before it.
PRECISIONS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}


# Build
def build(task, weights):
    core = ov.Core()
    network = core.read_model(export(task, weights))
    network.reshape([task.batch, 3, 224, 224])
    precision = PRECISIONS[task.precision]
    settings = {
        "INFERENCE_NUM_THREADS": task.threads,
        # All threads on one batch, then the next. THROUGHPUT would run several batches side by side.
        "PERFORMANCE_HINT": "LATENCY",
        # Left alone, the plugin takes float16 or bfloat16 where the processor has it.
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(network, "CPU", settings)
    # A hint is not an order: a processor without bfloat16 gets float32, and no message.
    if compiled.get_property("INFERENCE_PRECISION_HINT") != precision:
        raise NotImplementedError("this processor has no %s for OpenVINO, which would compute float32" % task.precision)
    return SimpleNamespace(task=task, request=compiled.create_infer_request())


# Place: a request takes whole tensors, so the batches are parted here; the tensors share the array's memory.
def place(model, array):
    parts = np.split(np.array(array), len(array) // model.task.batch)
    return [ov.Tensor(part, shared_memory=True) for part in parts]


# Predict
def predict(model, x):
    features = []
    for part in x:
        model.request.set_input_tensor(part)
        model.request.infer()
        # The request writes every batch into the same output, so each is copied.
        features.append(model.request.get_output_tensor().data.copy())
    return np.concatenate(features)


# Synchronize: `infer` returns when the batch is finished.
def synchronize(model):
    pass
