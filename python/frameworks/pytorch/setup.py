"""What the three PyTorch legs share: device, precision, threads, compilation, CUDA graphs."""

import torch

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32}


def setup(task):
    """Obeys the task's threads, seed and precision, and gives the device."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    # fp32 is float32: TF32 off in convolutions too, where PyTorch has it on by default.
    torch.backends.cuda.matmul.allow_tf32 = task.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = task.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 0  # all of cuDNN's algorithms are tried, not the first ten
    return torch.device(task.device)


def memory_format(task):
    """Channels last, the order of a CPU's convolutions and of tensor cores. A GPU's kernels for fp32 want channels first."""
    return torch.contiguous_format if (task.device, task.precision) == ("cuda", "fp32") else torch.channels_last


def autocast(task):
    """bf16 is PyTorch's mixed precision: products and convolutions in bfloat16, weights, scores and losses in float32."""
    return torch.autocast(task.device, torch.bfloat16, enabled=task.precision == "bf16")


def compile(model, task, **options):
    """Compiles `forward` (and with it the backward pass) in place, once per mode and shape; eager rows are left as they are.

    A CUDA graph of the whole step (`replayed`) stands in for `mode="reduce-overhead"`, which makes one of each part that was
    compiled: with those a step of the CNN takes 2.5 times as long in bf16 on an H200.
    """
    if task.compile:
        torch.compiler.reset()  # graphs of models built earlier in this process
        if memory_format(task) != torch.channels_last:
            options["layout_optimization"] = False  # it would put channels last all the same
        model.compile(dynamic=False, options=options)


def aligned(channels, task):
    """`channels`, or the next multiple of 8, which tensor cores want, on a GPU in tf32 or bf16.

    The channels beyond have weights of zero and stay so: their gradients are zero. Without them cuDNN pads every input of every
    convolution: an epoch takes 1.5 times as long in bf16 on an H200.
    """
    return -(-channels // 8) * 8 if task.device == "cuda" and task.precision in ("tf32", "bf16") else channels


@torch.no_grad()
def fill(network, weights):
    """Copies canonical weights into the parameters of the same names; what a parameter has beyond them becomes zero."""
    for name, parameter in network.named_parameters():
        parameter.zero_()
        corner(parameter, weights[name].shape).copy_(torch.tensor(weights[name]))


def corner(tensor, shape):
    return tensor[tuple(slice(size) for size in shape)]


def forget(optimizer):
    """Clears the optimizer's state in place: a captured step goes on with the buffers that it saw."""
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()


def replayed(function, task, *inputs):
    """`function` of tensors as one CUDA graph, captured here, if the row asks for that and the device can; otherwise `function` itself.

    Started kernel by kernel, a batch of so small a network waits for the processor; replayed, it is started at once. What a
    replay returns, the next one overwrites. https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture

    Args:
        inputs: tensors of the shapes, types and memory formats that it will be given.
    """
    if not (task.graph and task.device == "cuda"):
        return function
    inputs = [tensor.clone() for tensor in inputs]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # What is made at the first use (the optimizer's state, plans of kernels) is no part of the graph.
        for _ in range(3):
            function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function(*inputs)

    def replay(*given):
        for own, tensor in zip(inputs, given):
            own.copy_(tensor)
        graph.replay()
        return output

    return replay


def synchronize(model):
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
