"""What the three PyTorch legs share: device, precision, threads, compilation."""

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
    return torch.device(task.device)


def autocast(task):
    """bf16 is PyTorch's mixed precision: products and convolutions in bfloat16, weights, scores and losses in float32."""
    return torch.autocast(task.device, torch.bfloat16, enabled=task.precision == "bf16")


def compile(model, task, **options):
    """Compiles `forward` (and with it the backward pass) in place, once per mode and shape; eager rows are left as they are."""
    if task.compile:
        torch.compiler.reset()  # graphs of models built earlier in this process
        model.compile(dynamic=False, options=options)


def synchronize(model):
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
