"""The PyTorch leg's ResNet-50 as an ONNX model, for the legs of the runtimes that read one."""

import importlib.util
import io
import sys
from pathlib import Path

import torch

# The network is the PyTorch leg's own, loaded by its path because the importing leg's file is called resnet50.py too.
# What that file imports lies beside it: its folder comes second on the path, behind the importing leg's.
FOLDER = Path(__file__).parents[1] / "pytorch"
sys.path.insert(1, str(FOLDER))
SPEC = importlib.util.spec_from_file_location("pytorch_resnet50", FOLDER / "resnet50.py")
pytorch = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pytorch)


def export(task, weights):
    """The network with `weights` as the bytes of an ONNX file: `x` [n, 3, 224, 224] gives `features` [n, 2048]."""
    torch.set_num_threads(task.threads)
    network = pytorch.ResNet50().eval()
    state = {name: torch.tensor(array) for name, array in weights.items()}
    # The canonical weights lack `num_batches_tracked` alone, a counter of training steps.
    network.load_state_dict(network.state_dict() | state)
    # The exporter runs the network on the example, so the example is a single picture and n stays open: each runtime
    # fixes n for itself, and folds constants for itself. dynamo=False: the newer exporter wants onnxscript.
    file = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 224, 224),),
        file,
        input_names=["x"],
        output_names=["features"],
        dynamic_axes={"x": {0: "n"}, "features": {0: "n"}},
        do_constant_folding=False,
        dynamo=False,
    )
    return file.getvalue()
