"""Keras on PyTorch: eager execution; Keras's layers are PyTorch modules, its variables PyTorch parameters."""

from contextlib import nullcontext

import keras
import numpy as np
import torch
from keras.src.backend.common import global_state
from keras.src.backend.torch.core import get_device

# What `keras.optimizers.Adam` becomes on PyTorch: it updates all weights in one call.
from keras.src.backend.torch.optimizers.torch_adam import Adam  # noqa: F401

# PyTorch's order. With Keras's channels last it would copy the input of every convolution to channels first and back.
DATA_FORMAT = "channels_first"

# Steps are launched one by one.
STEPS_PER_EXECUTION = {"cpu": 1, "cuda": 1}


def configure(task):
    global_state.set_global_attribute("torch_device", task.device)  # what `keras.device` sets, for good
    torch.set_num_threads(task.threads)
    # fp32 is float32: TF32 off in convolutions too, where PyTorch has it on by default.
    torch.backends.cuda.matmul.allow_tf32 = task.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = task.precision == "tf32"
    torch.backends.cudnn.benchmark = True


def put(array):
    placed = torch.tensor(array, device=get_device())
    # PyTorch's `channels_last` is an order in memory alone, which its convolutions keep.
    return placed.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else placed


def steps(model):
    weights = model.trainable_variables
    if model.task.trained:
        # For speed: a number that Keras makes a tensor is copied to the GPU, and the copy waits for all that is queued there.
        # Keras's mean would so copy the count of losses, its optimizers the count of steps, the betas and more: the mean is
        # PyTorch's below, and the optimizer's numbers stay on the CPU, from where kernels take them as arguments.
        model.loss.reduction = None
        count = model.optimizer.iterations.value
        count.data = count.data.cpu()
        if model.task.optimizer == "adam":
            # Epsilon alone is no argument of a kernel's: once on the GPU, it stays there.
            model.optimizer.epsilon = keras.ops.convert_to_tensor(model.task.epsilon)

    def step(x, y, batch):
        model.zero_grad()
        loss = model.loss(y[batch], model(x[batch], training=True)).mean()
        loss.backward()
        with keras.device("cpu"):
            model.optimizer.apply([weight.value.grad for weight in weights], weights)
        return loss.detach()

    @torch.inference_mode()
    def forward(x):
        return model(x, training=False)

    model.training_step, model.inference_step = step, forward


def on_device(positions):
    return torch.as_tensor(np.stack(positions), device=get_device()).unbind()


def training(model):
    return nullcontext(model.training_step)


def collect(losses):
    return torch.stack(losses).cpu()


def synchronize(model):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
