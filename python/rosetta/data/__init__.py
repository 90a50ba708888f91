"""Preparation of the shared arrays: once, from the published archives where they can be had."""

from .arrays import DataError, check, load_manifest, write_arrays
from .prepare import SOURCES, prepare
from .progress import Bars, Progress

__all__ = ["SOURCES", "Bars", "DataError", "Progress", "check", "load_manifest", "prepare", "write_arrays"]
