"""Preparation of the shared arrays: once, from the published archives where they can be had."""

from .arrays import DataError, check, load_manifest, write_arrays
from .progress import Bars, Progress

__all__ = ["Bars", "DataError", "Progress", "check", "load_manifest", "prepare", "write_arrays"]


def __getattr__(name):
    """`prepare` on demand: what it downloads and tokenizes with is slow to import, and most steps only check arrays."""
    if name == "prepare":
        from .preparation import prepare

        return prepare
    raise AttributeError(name)
