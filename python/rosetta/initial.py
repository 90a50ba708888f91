"""The canonical initial weights: drawn once in float64 from the task's seed, cast to float32, shared by every leg."""

import numpy as np

from rosetta.tasks import Task

Weights = dict[str, np.ndarray]

CNN = {
    "conv1": (50, 3, 3, 3),
    "conv2": (50, 50, 3, 3),
    "conv3": (100, 50, 3, 3),
    "conv4": (100, 100, 3, 3),
    "dense1": (512, 6400),
    "dense2": (10, 512),
}
RNN = {
    "embedding.weight": (30_000, 125),
    "gru.weight_ih": (300, 125),
    "gru.weight_hh": (300, 100),
    "dense.weight": (2, 100),
}
RESNET50_BLOCKS = (3, 4, 6, 3)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, equation 16).

    Args:
        shape: [out, in, ...]; the remaining dimensions are a kernel's and multiply both fans.
    """
    receptive = int(np.prod(shape[2:]))
    limit = np.sqrt(6 / (receptive * (shape[0] + shape[1])))
    return rng.uniform(-limit, limit, shape)


def cnn(rng: np.random.Generator) -> Weights:
    weights = {}
    for layer, shape in CNN.items():
        weights[f"{layer}.weight"] = glorot_uniform(rng, shape)
        weights[f"{layer}.bias"] = np.zeros(shape[0])
    return weights


def rnn(rng: np.random.Generator) -> Weights:
    weights = {name: glorot_uniform(rng, shape) for name, shape in RNN.items()}
    biases = {"gru.bias_ih": np.zeros(300), "gru.bias_hh": np.zeros(300), "dense.bias": np.zeros(2)}
    order = (
        "embedding.weight",
        "gru.weight_ih",
        "gru.weight_hh",
        "gru.bias_ih",
        "gru.bias_hh",
        "dense.weight",
        "dense.bias",
    )
    return {name: {**weights, **biases}[name] for name in order}


def resnet50_layers():
    """(name, out channels, in channels, kernel size) of every convolution, in torchvision's names and order."""
    yield "conv1", 64, 3, 7
    width_in = 64
    for stage, blocks in enumerate(RESNET50_BLOCKS):
        width = 64 * 2**stage
        for block in range(blocks):
            prefix = f"layer{stage + 1}.{block}"
            yield f"{prefix}.conv1", width, width_in, 1
            yield f"{prefix}.conv2", width, width, 3
            yield f"{prefix}.conv3", 4 * width, width, 1
            if block == 0:
                yield f"{prefix}.downsample.0", 4 * width, width_in, 1
            width_in = 4 * width


def batch_norm_of(convolution: str) -> str:
    """The name of the batch norm behind a convolution: bn2 for conv2, downsample.1 for downsample.0."""
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    return convolution.replace("conv", "bn")


def resnet50(rng: np.random.Generator) -> Weights:
    """Seeded, not trained. Every batch norm statistic differs from its neutral value, so that a swapped one shows.

    Kernels are He-normal (He et al. 2015); the last batch norm of a block is scaled down, so that 16 residual sums stay of order 1.
    """
    weights = {}
    for name, width, width_in, size in resnet50_layers():
        weights[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / (width_in * size * size)), (width, width_in, size, size))
        norm = batch_norm_of(name)
        scale = 0.5 if name.endswith("conv3") else 1.0
        weights[f"{norm}.weight"] = scale * rng.uniform(0.5, 1.5, width)
        weights[f"{norm}.bias"] = rng.uniform(-0.2, 0.2, width)
        weights[f"{norm}.running_mean"] = rng.uniform(-0.2, 0.2, width)
        weights[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, width)
    return weights


def draw(task: Task) -> Weights:
    """Canonical weights of a task: {name: float32 array}, in the order of the network."""
    rng = np.random.default_rng(task.seed)
    drawn = {"cnn": cnn, "rnn": rnn, "resnet50": resnet50}[task.name](rng)
    return {name: array.astype(np.float32) for name, array in drawn.items()}
