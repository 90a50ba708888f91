"""What the three PyTorch legs share: device, precision, threads."""

import torch

DTYPES = {"fp64": torch.float64, "fp32": torch.float32}


def setup(task):
    """Obeys the task's threads, seed and precision, and gives the device."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    # fp32 is float32: TF32 off in convolutions too, where PyTorch has it on by default.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch.device(task.device)


def synchronize(model):
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
