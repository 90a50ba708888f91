"""CIFAR-10 from its binary archive: pictures and classes.

A record is 1 byte for the class and 3,072 for the picture: planes R, G, B, each row by row
(https://www.cs.toronto.edu/~kriz/cifar.html). That is the contract's [3, 32, 32] already.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..tasks import Task
from .arrays import Blocks, DataError
from .progress import Progress
from .tar import members

FOLDER = "cifar-10-batches-bin/"
TRAINING = [f"{FOLDER}data_batch_{number}.bin" for number in (1, 2, 3, 4, 5)]
TEST = f"{FOLDER}test_batch.bin"
BLOCK = 500
"""Pictures that are converted at a time: 6 MB as float32."""


def read(path: Path, task: Task, progress: Progress) -> Iterator[tuple[str, np.ndarray | Blocks]]:
    """The shared arrays: x float32 [n, 3, 32, 32] in 0..1, y int64 [n], in the archive's order.

    Raises:
        DataError: the archive is truncated or damaged, or does not hold the expected batches.
    """
    record = 1 + int(np.prod(task.shape))
    sizes = {name: task.train // len(TRAINING) * record for name in TRAINING} | {TEST: task.test * record}
    batches = {}
    with progress.stage(f"reading {path.name}", len(sizes)) as advance:
        for name, content in members(path, lambda name: sizes.get(name, 0)):
            if len(content) != sizes[name]:
                raise DataError(f"{path}: {name} has {len(content)} bytes, {sizes[name]} expected; fetch it again")
            batches[name] = np.frombuffer(content, np.uint8).reshape(-1, record)
            advance(1)
    for name in sizes:
        if name not in batches:
            raise DataError(f"{path}: {name} is missing in the archive; fetch it again")
        if batches[name][:, 0].max() >= task.classes:
            raise DataError(f"{path}: {name} has a class above {task.classes - 1}: not CIFAR-10's layout")

    for split, names, count in (("train", TRAINING, task.train), ("test", [TEST], task.test)):
        with progress.stage(f"writing the {split} pictures", count) as advance:
            parts = (batches[name][:, 1:] for name in names)
            yield f"x_{split}", Blocks((count, *task.shape), np.float32, scaled(parts, task.shape, advance))
        yield f"y_{split}", np.concatenate([batches[name][:, 0] for name in names]).astype(np.int64)


def scaled(parts, shape, advance) -> Iterator[np.ndarray]:
    """Bytes [n, 3072] as float32 [n, *shape]: byte / 255."""
    for part in parts:
        for start in range(0, len(part), BLOCK):
            block = part[start : start + BLOCK]
            yield np.divide(block, np.float32(255)).reshape(-1, *shape)
            advance(len(block))
