"""A folder of arrays: NAME.npy files and a manifest.json with their shapes, types and checksums.

Written beside its place first and renamed when it is complete, so that a reader sees all of it or none of it.
"""

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from .progress import Progress

MANIFEST = "manifest.json"
MEGABYTE = 1_000_000


class DataError(Exception):
    """Arrays cannot be prepared or used. The message is one line: the thing, the cause and the way out."""


@dataclass(frozen=True)
class Blocks:
    """An array that is made block by block, so that it never has to be in memory as a whole.

    Attributes:
        shape, dtype: of the whole array.
        blocks: arrays that make up the whole when they are joined along the first axis.
    """

    shape: tuple[int, ...]
    dtype: type
    blocks: Iterable[np.ndarray]


def write_arrays(
    target: Path,
    arrays: Iterable[tuple[str, np.ndarray | Blocks]],
    extra: dict,
    bytes_needed: int = 0,
    progress: Progress | None = None,
) -> dict:
    """Writes a folder of arrays, all or nothing; a folder that is there already is replaced.

    Args:
        target: the folder.
        arrays: (name, array) in the order of the manifest; a generator keeps one array in memory at a time.
        extra: further entries of the manifest.
        bytes_needed: free space to ask for before anything is written.
        progress: told when another process holds the folder.

    Returns:
        The manifest: `extra`, `arrays` (name, shape, dtype, and bytes and sha256 of each file) and `sha256`, one
        hash over them all.

    Raises:
        DataError: the disk is full or the folder cannot be written. What was there before stays, nothing else does.
    """
    with locked(target, progress):
        return write_locked(target, arrays, extra, bytes_needed)


@contextmanager
def locked(target: Path, progress: Progress | None = None) -> Iterator[None]:
    """Holds `target` against other writers; waits for one that has it.

    Raises:
        DataError: the folder that `target` is to lie in cannot be written.
    """
    target = Path(target).absolute()
    with plain_refusals(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if progress:
                progress.note(f"{target}: another process is writing it; waiting for that one")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_locked(
    target: Path, arrays: Iterable[tuple[str, np.ndarray | Blocks]], extra: dict, bytes_needed: int = 0
) -> dict:
    """`write_arrays` for a caller that holds the lock."""
    target = Path(target).absolute()
    partial, old = (target.with_name(f".{target.name}.{state}") for state in ("partial", "old"))
    try:
        with plain_refusals(target, bytes_needed):
            tidy(target, partial, old)
            require_space(target, bytes_needed)
            partial.mkdir()
            entries = [write_array(partial, name, array) for name, array in arrays]
            manifest = {**extra, "arrays": entries, "sha256": hash_of(entries)}
            write_durably(partial / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
            swap(partial, target, old)
    finally:
        tidy(target, partial, old)
    return manifest


def write_array(folder: Path, name: str, array: np.ndarray | Blocks) -> dict:
    """Writes one .npy file and returns its entry in the manifest. A thread of its own hashes what is being written."""
    if not isinstance(array, Blocks):
        array = np.asarray(array)
        array = Blocks(array.shape, array.dtype, [array])
    sha256, rows, dtype = hashlib.sha256(), 0, np.dtype(array.dtype)
    header = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": tuple(array.shape)}
    np.lib.format.write_array_header_1_0(header, described)
    with open(folder / f"{name}.npy", "wb") as file, ThreadPoolExecutor(1) as thread:
        file.write(header.getvalue())
        sha256.update(header.getvalue())
        for block in array.blocks:
            if block.dtype != dtype or block.shape[1:] != tuple(array.shape[1:]):
                raise ValueError(f"{name}: block {block.dtype} {block.shape} in an array {dtype} {array.shape}")
            data = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
            hashed = thread.submit(sha256.update, data)
            file.write(data)
            hashed.result()
            rows += block.shape[0] if block.ndim else 1
        if rows != (array.shape[0] if array.shape else 1):
            raise ValueError(f"{name}: blocks of {rows} rows in all, in an array of shape {array.shape}")
        size = file.tell()
        flush_to_disk(file)
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": dtype.name,
        "bytes": size,
        "sha256": sha256.hexdigest(),
    }


def load_manifest(target: Path) -> dict:
    """The manifest of a folder of arrays.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = Path(target) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        manifest["arrays"], manifest["sha256"]
    except FileNotFoundError:
        raise DataError(f"{path}: not there; `rosetta prepare` makes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: unreadable ({error}); remove {target} and run `rosetta prepare`") from error
    return manifest


def check(target: Path, full: bool = False) -> None:
    """Holds the arrays in `target` against their manifest: the sizes of the files or, with `full`, their sha256.

    Raises:
        DataError: names the first array that is missing, truncated or changed.
    """
    mend = f"remove {target} and run `rosetta prepare`"
    for entry in load_manifest(target)["arrays"]:
        path = Path(target) / f"{entry['name']}.npy"
        try:
            size = path.stat().st_size
            if size != entry["bytes"]:
                what = "truncated" if size < entry["bytes"] else "changed"
                raise DataError(f"{path}: {what}: {size} bytes instead of {entry['bytes']}; {mend}")
            if full and (found := sha256_of(path)) != entry["sha256"]:
                raise DataError(f"{path}: changed: sha256 is {found} instead of {entry['sha256']}; {mend}")
        except OSError as error:
            raise DataError(f"{path}: unreadable ({error.strerror}); {mend}") from error


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()


def hash_of(entries: list[dict]) -> str:
    """One sha256 over the entries of a manifest."""
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def require_space(target: Path, bytes_needed: int) -> None:
    """Raises DataError where the disk that `target` is to lie on has less than `bytes_needed` free."""
    free = shutil.disk_usage(Path(target).parent).free
    if free < bytes_needed:
        raise DataError(
            f"{target}: disk full: {bytes_needed / MEGABYTE:.1f} MB needed ({bytes_needed} bytes), "
            f"{free / MEGABYTE:.1f} MB free; free some space or choose another disk"
        )


@contextmanager
def plain_refusals(target: Path, bytes_needed: int = 0) -> Iterator[None]:
    """Turns what the operating system refuses while `target` is written into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = f" ({bytes_needed} bytes needed)" if bytes_needed else ""
            raise DataError(f"{target}: disk full{needed}; free some space or choose another disk") from error
        raise DataError(f"{target}: cannot be written ({error.strerror or error}); choose another folder") from error


def tidy(target: Path, partial: Path, old: Path) -> None:
    """Removes what a writer left, also one that was killed; if that one had set the old folder aside, it returns."""
    if old.exists() and not target.exists():
        old.rename(target)
    for folder in (partial, old):
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def swap(partial: Path, target: Path, old: Path) -> None:
    """Puts the complete folder in its place."""
    flush_folder(partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    flush_folder(target.parent)


def write_durably(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        flush_to_disk(file)


def flush_to_disk(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
