"""The reference: all three networks in float64 NumPy, written to be checked rather than to be fast.

Each layer is a function that gives its output and a function for the way back. The gradients are checked against
finite differences in tests/test_reference.py. Nothing here is shared with the leg python/numpy, which is written for speed.
"""

import contextlib
from collections.abc import Callable

import numpy as np

from rosetta.initial import RESNET50_BLOCKS, Weights

Array = np.ndarray
BATCH_NORM_EPSILON = 1e-5


def total(array: Array) -> Array:
    """The sum over all axes but the second, that of units or channels: [n, c] or [n, c, h, w] -> [c]."""
    return array.sum(axis=(0, *range(2, array.ndim)))


class Products:
    """How the products of this module are computed: exactly, or with operands rounded as in a reduced format.

    TF32 rounds what goes into a product. In bfloat16, as mixed precision has it (weights stay float32, layers compute with copies), everything
    that an operation of a layer gives back is rounded, on the way back too: gradients of the copies, their sum over a recurrence's steps, and
    the partial sums of a bias's, which is what remains when a batch of either sign has cancelled.
    """

    operand = staticmethod(lambda array: array)
    result = staticmethod(lambda array: array)
    total = staticmethod(total)


@contextlib.contextmanager
def products_in(precision: str):
    """While this lasts, float32 products are those of `precision`: fp32, tf32 or bf16."""
    bits = {"fp32": None, "tf32": 10, "bf16": 7}[precision]
    if bits:
        Products.operand = staticmethod(lambda array: round_to(array, bits))
    if precision == "bf16":
        Products.result, Products.total = Products.operand, staticmethod(pairwise)
    try:
        yield
    finally:
        Products.operand = Products.result = staticmethod(lambda array: array)
        Products.total = staticmethod(total)


def pairwise(array: Array) -> Array:
    """`total` by halves, every partial sum rounded as a result is."""
    rows = np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])
    while len(rows) > 1:
        half = len(rows) // 2
        rows = np.concatenate([Products.result(rows[:half] + rows[half : 2 * half]), rows[2 * half :]])
    return rows[0]


def round_to(array: Array, bits: int) -> Array:
    """float32 with `bits` bits behind the point, rounded to nearest, ties to even (IEEE 754)."""
    drop = 23 - bits
    whole = np.ascontiguousarray(array, np.float32).view(np.uint32)
    odd = (whole >> np.uint32(drop)) & np.uint32(1)
    kept = (whole + odd + np.uint32(2 ** (drop - 1) - 1)) & np.uint32(2**32 - 2**drop)
    return kept.view(np.float32).reshape(array.shape)


UNDECIDED = 2.0**-20
"""Sixteen units of float32's rounding (2^-24): nearer to zero than this, measured by the layer's root mean square, float32 cannot tell the sign
of a sum of a few hundred products, and two right libraries may open and close the gate of the same element."""


class Gates:
    """Which way goes what float32 cannot decide: 0 as it was computed, -1 closed (of near maxima the first), 1 open (the last)."""

    side = 0


@contextlib.contextmanager
def undecided_gates(side: int):
    """While this lasts, gradients go through undecided gates on one side: -1, 0 or 1."""
    Gates.side = side
    try:
        yield
    finally:
        Gates.side = 0


def margin(x: Array) -> float:
    """How near to each other two numbers of a layer are where float32 cannot tell which is larger; 0 where none is to be flipped."""
    return UNDECIDED * float(np.sqrt(np.mean(np.square(x)))) if Gates.side else 0.0


def conv2d(x: Array, w: Array, b: Array | None = None, stride: int = 1, padding: int = 0) -> tuple[Array, Callable]:
    """Cross-correlation as a sum over kernel positions of channel products.

    Args:
        x: [n, in, height, width]. w: [out, in, k, k]. b: [out] or None.

    Returns:
        y [n, out, height', width'], and back(dy) -> (dx, dw, db).
    """
    size = w.shape[2]
    x, w = Products.operand(x), Products.operand(w)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height = (padded.shape[2] - size) // stride + 1
    width = (padded.shape[3] - size) // stride + 1

    def window(array, i, j):
        return array[:, :, i : i + stride * height : stride, j : j + stride * width : stride]

    y = np.zeros((len(x), w.shape[0], height, width), x.dtype)
    for i in range(size):
        for j in range(size):
            patch = window(padded, i, j).reshape(len(x), x.shape[1], -1)
            y += (w[:, :, i, j] @ patch).reshape(y.shape)
    if b is not None:
        y += b[:, None, None]
    y = Products.result(y)

    def back(dy):
        dy = Products.operand(dy)
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        flat = dy.reshape(len(x), w.shape[0], -1)
        for i in range(size):
            for j in range(size):
                patch = window(padded, i, j)
                dw[:, :, i, j] = np.tensordot(dy, patch, axes=([0, 2, 3], [0, 2, 3]))
                window(dpadded, i, j)[...] += (w[:, :, i, j].T @ flat).reshape(patch.shape)
        dx = dpadded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
        return tuple(map(Products.result, (dx, dw, Products.total(dy))))

    return y, back


def relu(x: Array) -> tuple[Array, Callable]:
    threshold = -Gates.side * margin(x)
    return np.maximum(x, 0), lambda dy: dy * (x > threshold)


def max_pool2(x: Array) -> tuple[Array, Callable]:
    """2 x 2 maxima, [n, c, h, w] -> [n, c, h/2, w/2]; of equal values the first one takes the gradient."""
    n, c, h, w = x.shape
    quads = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    near = quads >= quads.max(axis=4, keepdims=True) - margin(x)
    first = (3 - near[..., ::-1].argmax(axis=4) if Gates.side > 0 else near.argmax(axis=4))[..., None]

    def back(dy):
        dquads = np.zeros_like(quads)
        np.put_along_axis(dquads, first, dy[..., None], axis=4)
        return dquads.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)

    return np.take_along_axis(quads, first, axis=4)[..., 0], back


def dense(x: Array, w: Array, b: Array) -> tuple[Array, Callable]:
    """x [n, in], w [out, in], b [out] -> y [n, out], and back(dy) -> (dx, dw, db)."""
    x, w = Products.operand(x), Products.operand(w)

    def back(dy):
        dy = Products.operand(dy)
        return tuple(map(Products.result, (dy @ w, dy.T @ x, Products.total(dy))))

    return Products.result(x @ w.T + b), back


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gru(e: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> tuple[Array, Callable]:
    """A GRU in the reset-after form (Cho et al. 2014 as cuDNN computes it), its last hidden state.

    Args:
        e: [n, time, E]. w_ih: [3H, E] and w_hh: [3H, H], gates r, z, n. b_ih, b_hh: [3H].

    Returns:
        h [n, H], and back(dh) -> (de, dw_ih, dw_hh, db_ih, db_hh).
    """
    operand, result = Products.operand, Products.result
    w_ih, w_hh = operand(w_ih), operand(w_hh)
    h = np.zeros((len(e), w_hh.shape[1]), e.dtype)
    tape = []
    for t in range(e.shape[1]):
        i_r, i_z, i_n = np.split(result(operand(e[:, t]) @ w_ih.T + b_ih), 3, axis=1)
        k_r, k_z, k_n = np.split(result(operand(h) @ w_hh.T + b_hh), 3, axis=1)
        r, z = result(sigmoid(i_r + k_r)), result(sigmoid(i_z + k_z))
        n = result(np.tanh(i_n + r * k_n))
        tape.append((h, r, z, n, k_n))
        h = result((1 - z) * n + z * h)

    def back(dh):
        de = np.zeros_like(e)
        gradients = [np.zeros_like(array) for array in (w_ih, w_hh, b_ih, b_hh)]
        for t in reversed(range(e.shape[1])):
            before, r, z, n, k_n = tape[t]
            dn = dh * (1 - z) * (1 - n**2)
            dz = dh * (before - n) * z * (1 - z)
            dr = dn * k_n * r * (1 - r)
            di = operand(np.concatenate([dr, dz, dn], axis=1))
            dk = operand(np.concatenate([dr, dz, dn * r], axis=1))
            de[:, t] = result(di @ w_ih)
            dh = result(dh * z + dk @ w_hh)
            for gradient, part in zip(
                gradients, (di.T @ e[:, t], dk.T @ before, Products.total(di), Products.total(dk))
            ):
                gradient[...] = result(gradient + part)
        return de, *gradients

    return h, back


def cross_entropy(logits: Array, y: Array) -> tuple[float, Array]:
    """Mean softmax cross-entropy of [n, classes] logits, and its gradient."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    gradient = np.exp(log_p)
    gradient[rows, y] -= 1
    return float(-log_p[rows, y].mean()), gradient / len(y)


def cnn(w: Weights, x: Array) -> tuple[Array, Callable]:
    """Logits [n, 10] of pictures [n, 3, 32, 32], and back(dlogits) -> gradients; dropout off."""
    h, back_conv1 = conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1)
    h, back_relu1 = relu(h)
    h, back_conv2 = conv2d(h, w["conv2.weight"], w["conv2.bias"], padding=1)
    h, back_pool2 = max_pool2(h)
    h, back_relu2 = relu(h)
    h, back_conv3 = conv2d(h, w["conv3.weight"], w["conv3.bias"], padding=1)
    h, back_relu3 = relu(h)
    h, back_conv4 = conv2d(h, w["conv4.weight"], w["conv4.bias"], padding=1)
    h, back_pool4 = max_pool2(h)
    h, back_relu4 = relu(h)
    shape = h.shape
    h, back_dense1 = dense(h.reshape(len(x), -1), w["dense1.weight"], w["dense1.bias"])
    h, back_relu5 = relu(h)
    logits, back_dense2 = dense(h, w["dense2.weight"], w["dense2.bias"])

    def back(d):
        g = {}
        d, g["dense2.weight"], g["dense2.bias"] = back_dense2(d)
        d, g["dense1.weight"], g["dense1.bias"] = back_dense1(back_relu5(d))
        d = back_pool4(back_relu4(d.reshape(shape)))
        d, g["conv4.weight"], g["conv4.bias"] = back_conv4(d)
        d, g["conv3.weight"], g["conv3.bias"] = back_conv3(back_relu3(d))
        d = back_pool2(back_relu2(d))
        d, g["conv2.weight"], g["conv2.bias"] = back_conv2(d)
        d, g["conv1.weight"], g["conv1.bias"] = back_conv1(back_relu1(d))
        return g

    return logits, back


def rnn(w: Weights, x: Array) -> tuple[Array, Callable]:
    """Logits [n, 2] of token ids [n, time], and back(dlogits) -> gradients."""
    e = w["embedding.weight"][x]
    h, back_gru = gru(e, w["gru.weight_ih"], w["gru.weight_hh"], w["gru.bias_ih"], w["gru.bias_hh"])
    logits, back_dense = dense(h, w["dense.weight"], w["dense.bias"])

    def back(d):
        g = {"embedding.weight": np.zeros_like(w["embedding.weight"])}
        d, g["dense.weight"], g["dense.bias"] = back_dense(d)
        de, g["gru.weight_ih"], g["gru.weight_hh"], g["gru.bias_ih"], g["gru.bias_hh"] = back_gru(d)
        np.add.at(g["embedding.weight"], x, de)
        return g

    return logits, back


def batch_norm(x: Array, w: Weights, name: str) -> Array:
    """Inference mode: running statistics, [n, c, h, w]."""
    scale = w[f"{name}.weight"] / np.sqrt(w[f"{name}.running_var"] + BATCH_NORM_EPSILON)
    return x * scale[:, None, None] + (w[f"{name}.bias"] - w[f"{name}.running_mean"] * scale)[:, None, None]


def resnet50(w: Weights, x: Array) -> Array:
    """Features [n, 2048] of pictures [n, 3, 224, 224]: torchvision's ResNet-50 up to the global average pool."""

    def unit(h, convolution, norm, stride=1, padding=0):
        return batch_norm(conv2d(h, w[f"{convolution}.weight"], stride=stride, padding=padding)[0], w, norm)

    h = np.maximum(unit(x, "conv1", "bn1", stride=2, padding=3), 0)
    h = max_pool3(h)
    for stage, blocks in enumerate(RESNET50_BLOCKS):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}."
            stride = 2 if stage and not block else 1
            shortcut = unit(h, name + "downsample.0", name + "downsample.1", stride) if not block else h
            h = np.maximum(unit(h, name + "conv1", name + "bn1"), 0)
            h = np.maximum(unit(h, name + "conv2", name + "bn2", stride, padding=1), 0)
            h = np.maximum(unit(h, name + "conv3", name + "bn3") + shortcut, 0)
    return h.mean(axis=(2, 3))


def max_pool3(x: Array) -> Array:
    """3 x 3 maxima at stride 2, padding 1: [n, c, h, w] -> [n, c, h/2, w/2] for even h and w."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = [padded[:, :, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]
    return np.maximum.reduce(windows)


def sgd(weights: Weights, gradients: Weights, state: dict, task) -> None:
    """v = momentum v + g; w = w - learning_rate v, in place."""
    for name, g in gradients.items():
        velocity = state.setdefault(name, np.zeros_like(g))
        velocity[...] = task.momentum * velocity + g
        weights[name] -= task.learning_rate * velocity


def adam(weights: Weights, gradients: Weights, state: dict, task) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1), epsilon outside the root and after the bias correction, in place.

    With `task.single_betas` the moments take 1 - beta as float32 gives it, and the correction the exact one, as libraries do that hold
    their settings in float32: 1 - 0.999 is then off by 1.3e-5, and so is every step, by half of it and always to the same side.
    """
    state["t"] = t = state.get("t", 0) + 1
    rounded = np.float32 if getattr(task, "single_betas", False) else float
    share1, share2 = (1 - rounded(beta) for beta in (task.beta1, task.beta2))
    for name, g in gradients.items():
        m, v = state.setdefault(name, (np.zeros_like(g), np.zeros_like(g)))
        m[...] = task.beta1 * m + share1 * g
        v[...] = task.beta2 * v + share2 * g**2
        step = (m / (1 - task.beta1**t)) / (np.sqrt(v / (1 - task.beta2**t)) + task.epsilon)
        weights[name] -= task.learning_rate * step


def golden(
    task,
    weights: Weights,
    x: Array,
    y: Array | None,
    checkpoints: tuple[int, ...],
    progress=None,
    dtype=np.float64,
    shuffle: int = 0,
) -> Weights:
    """The golden values of a task.

    Args:
        task: a namespace with name, trained, batch, optimizer and its numbers.
        x, y: the samples of the first max(checkpoints) batches; only the first batch for a forward-only task.
        checkpoints: numbers of steps after which the logits of the first batch are kept.
        progress: called after each step with the number of steps done.
        shuffle: any other number than 0 puts the samples of each batch in another order, which changes nothing but the order of sums.
        dtype: float64 gives the golden values; float32 shows how far this precision drifts from them on the same samples.

    Returns:
        `features` for a forward-only task; else `losses` [steps], `logits_0` and `logits_K` [batch, classes] for each
        checkpoint K, and `gradient NAME`, the norm of each parameter's gradient at step 1.
    """
    weights = {name: np.array(array, dtype) for name, array in weights.items()}
    if not task.trained:
        return {"features": resnet50(weights, np.asarray(x[: task.batch], dtype))}
    network = {"cnn": cnn, "rnn": rnn}[task.name]
    update = {"sgd": sgd, "adam": adam}[task.optimizer]
    x = np.asarray(x, dtype) if task.name == "cnn" else np.asarray(x)
    first, state = x[: task.batch], {}
    values = {"logits_0": network(weights, first)[0]}
    losses = []
    for step in range(max(checkpoints)):
        part = np.arange(step * task.batch, (step + 1) * task.batch)
        if shuffle:
            part = np.random.default_rng([shuffle, step]).permutation(part)
        logits, back = network(weights, x[part])
        loss, d = cross_entropy(logits, y[part])
        gradients = back(d)
        losses.append(loss)
        if step == 0:
            values.update({f"gradient {name}": np.linalg.norm(g) for name, g in gradients.items()})
        update(weights, gradients, state, task)
        if step + 1 in checkpoints:
            values[f"logits_{step + 1}"] = network(weights, first)[0]
        if progress:
            progress(step + 1)
    return {**values, "losses": np.array(losses)}
