"""Synthetic stand-ins for CIFAR-10 and IMDB, for a machine that cannot have them.

Same shapes, types and value ranges, with a signal of the class that both networks learn within some dozens of
steps. Everything follows from the seed; RandomState, because its streams are frozen for all versions of NumPy.
"""

from collections.abc import Iterator

import numpy as np

from ..tasks import Task
from .arrays import Blocks
from .imdb import OFFSET, START, UNKNOWN, VOCABULARY
from .progress import Progress

BLOCK = 2_000
NOISE = 64
"""Largest brightness, of 255, that noise adds to a picture."""
SIGNAL_WORDS = 20
"""Words that stand for one class. Few and frequent: each of them is learned from its own occurrences alone."""
SIGNAL = 0.5
"""Share of the words that tell the class."""


def arrays(task: Task, seed: int, progress: Progress) -> Iterator[tuple[str, np.ndarray | Blocks]]:
    """x_train, y_train, x_test, y_test of a trained task, as the archives would give them."""
    make = {"cnn": pictures, "rnn": reviews}[task.name]
    for split, count, shift in (("train", task.train, 0), ("test", task.test, 1)):
        random = np.random.RandomState((seed + shift) % 2**32)
        y = random.randint(task.classes, size=count).astype(np.int64)
        with progress.stage(f"writing the synthetic {split} samples", count) as advance:
            blocks = make(y, task, random, seed)
            dtype = np.float32 if task.name == "cnn" else np.int64
            yield f"x_{split}", Blocks((count, *task.shape), dtype, counted(blocks, advance))
        yield f"y_{split}", y


def counted(blocks, advance):
    for block in blocks:
        yield block
        advance(len(block))


def pictures(y: np.ndarray, task: Task, random: np.random.RandomState, seed: int) -> Iterator[np.ndarray]:
    """float32 [n, 3, 32, 32], byte / 255: a class is a pattern of 4 x 4 coloured patches, dark or bright, under noise."""
    channels, height, width = task.shape
    bright = np.random.RandomState(seed).randint(2, size=(task.classes, channels, 4, 4))
    patterns = (bright * (255 - NOISE)).repeat(height // 4, axis=2).repeat(width // 4, axis=3).astype(np.uint8)
    for start in range(0, len(y), BLOCK):
        classes = y[start : start + BLOCK]
        noise = random.randint(NOISE + 1, size=(len(classes), *task.shape), dtype=np.uint8)
        yield np.divide(patterns[classes] + noise, np.float32(255))


def reviews(y: np.ndarray, task: Task, random: np.random.RandomState, seed: int) -> Iterator[np.ndarray]:
    """int64 [n, tokens]: words at random, rare and frequent ones as in a text, among them those that tell the class."""
    tokens = task.shape[0]
    first = OFFSET + 1
    tells = np.random.RandomState(seed).permutation(task.classes * SIGNAL_WORDS).reshape(task.classes, -1) + first
    others = first + task.classes * SIGNAL_WORDS
    for start in range(0, len(y), BLOCK):
        classes = y[start : start + BLOCK]
        shape = (len(classes), tokens)
        # Zipf's law: the logarithm of a word's rank is spread evenly.
        x = (others * (VOCABULARY / others) ** random.random_sample(shape)).astype(np.int64)
        x[random.random_sample(shape) < 0.01] = UNKNOWN
        telling = random.random_sample(shape) < SIGNAL
        x[telling] = tells[classes[:, np.newaxis], random.randint(SIGNAL_WORDS, size=shape)][telling]
        # As in IMDB, most reviews are longer than what is kept of them; the others begin with START and end in zeros.
        lengths = random.randint(tokens // 3, 4 * tokens, size=(len(classes), 1))
        x[lengths[:, 0] < tokens, 0] = START
        x[np.arange(tokens) >= lengths] = 0
        yield x
