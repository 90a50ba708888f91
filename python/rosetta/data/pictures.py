"""Seeded pictures for the forward-only task."""

from collections.abc import Iterator

import numpy as np

from .arrays import Blocks

MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
"""Of ImageNet's red, green and blue in 0..1, with which torchvision's ResNet-50 wants its input normalized."""


def pictures(count: int, shape: tuple, seed: int) -> Blocks:
    """float32 [count, 3, height, width]: uniform in 0..1, then normalized. The first k are the same for every count."""
    return Blocks((count, *shape), np.float32, draw(count, shape, seed))


def draw(count: int, shape: tuple, seed: int) -> Iterator[np.ndarray]:
    random = np.random.RandomState(seed)
    for _ in range(count):
        picture = random.random_sample(shape)
        yield ((picture - MEAN[:, None, None]) / DEVIATION[:, None, None]).astype(np.float32)[np.newaxis]
