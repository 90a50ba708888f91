"""Medians and bootstrap intervals of raw samples that come in groups.

A group is one process (a round), its samples are the epochs that ran in it. Epochs of one process share its memory layout,
its clocks and its neighbours, so they are not independent: the bootstrap resamples processes first, then epochs within each
(Davison and Hinkley 1997, section 3.8). The interval is the percentile one.
"""

import functools
import json

import numpy as np

RESAMPLES = 10_000
SEED = 2018
LEVEL = 0.95

NOTHING = (float("nan"), float("nan"))


def median(groups: list[list[float]]) -> float:
    """The median of all samples of all groups; NaN when there is none."""
    samples = [sample for group in groups for sample in group]
    return float(np.median(samples)) if samples else float("nan")


def interval(groups: list[list[float]]) -> tuple[float, float]:
    """The 95 % interval of `median(groups)`; NaN, NaN for fewer than two samples, whose spread nobody knows."""
    if count(groups) < 2:
        return NOTHING
    return bounds(resampled(groups, SEED))


def ratio_interval(groups: list[list[float]], reference: list[list[float]]) -> tuple[float, float]:
    """The 95 % interval of `median(groups) / median(reference)`, both resampled independently of each other."""
    if count(groups) < 2 or count(reference) < 2:
        return NOTHING
    return bounds(resampled(groups, SEED, 0) / resampled(reference, SEED, 1))


def count(groups: list[list[float]]) -> int:
    return sum(map(len, groups))


def bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled(groups: list[list[float]], *seed: int) -> np.ndarray:
    """The medians of samples that did not change are drawn but once: a leg is compared in several places, and a page made again and again."""
    return remembered_medians(json.dumps(groups), seed)


@functools.lru_cache(maxsize=300)
def remembered_medians(groups: str, seed: tuple[int, ...]) -> np.ndarray:
    entropy, *stream = seed
    random = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=tuple(stream)))
    return resampled_medians(json.loads(groups), random)


def resampled_medians(groups: list[list[float]], random: np.random.Generator) -> np.ndarray:
    """Medians [RESAMPLES] of samples drawn with replacement: as many groups as there are, as many samples in each as it has."""
    groups = [group for group in groups if group]
    sizes = np.array([len(group) for group in groups])
    samples = np.full((len(groups), sizes.max()), np.nan)
    for row, group in zip(samples, groups):
        row[: len(group)] = group

    drawn_groups = random.integers(len(groups), size=(RESAMPLES, len(groups)))
    drawn_sizes = sizes[drawn_groups][..., None]
    positions = (random.random((RESAMPLES, len(groups), sizes.max())) * drawn_sizes).astype(int)
    drawn = samples[drawn_groups[..., None], positions]
    drawn[np.arange(sizes.max()) >= drawn_sizes] = np.nan
    return np.nanmedian(drawn.reshape(RESAMPLES, -1), axis=1)
