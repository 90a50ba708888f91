"""Where a data set comes from: an archive in the user's folder, or the official address."""

import os
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from .arrays import DataError, plain_refusals, require_space, sha256_of
from .progress import Progress
from .tar import is_truncated

FOLDER_VARIABLE = "ROSETTA_DATA_DIR"
CONNECT_SECONDS, READ_SECONDS = 5, 60


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        title: what the data set is called in a report.
        url: the official address.
        sha256, bytes: of the archive there, as TensorFlow Datasets records them in its url_checksums; the md5 that the
            CIFAR-10 page itself publishes is c32a1d4ab5d03f1284b67883e8d87530.
    """

    title: str
    url: str
    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


ARCHIVES = {
    "cnn": Archive(
        title="CIFAR-10",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        bytes=170_052_171,
    ),
    "rnn": Archive(
        title="IMDB",
        url="https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        bytes=84_125_825,
    ),
}


class Unreachable(Exception):
    """The official address cannot be reached from here."""


def user_folder(folder: Path | None) -> Path | None:
    """The folder that the user names: in the configuration, else in ROSETTA_DATA_DIR, else none."""
    named = folder or os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else None


def in_folder(archive: Archive, folder: Path) -> Path:
    """The archive's path in the folder that the user names.

    Raises:
        DataError: the folder or the archive in it is missing.
    """
    named = f"data_folder in config/config.yaml or {FOLDER_VARIABLE}"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; let {named} name the one that holds {archive.name}, or none")
    path = folder / archive.name
    if not path.is_file():
        raise DataError(f"{path}: no such archive; put it there (from {archive.url}), or let {named} name no folder")
    return path


def checked(archive: Archive, path: Path, accept_other_checksum: bool) -> str:
    """The archive's sha256, if it may be used.

    Raises:
        DataError: it is not the published one and the user has not consented to another, or the archive is truncated.
    """
    found = fingerprint(path)
    if found == archive.sha256:
        return found
    if is_truncated(path):
        size = path.stat().st_size
        raise DataError(
            f"{path}: truncated: {size} bytes, the published archive has {archive.bytes}; fetch it again from {archive.url}"
        )
    if not accept_other_checksum:
        raise DataError(
            f"{path}: wrong checksum: sha256 is {found}, expected {archive.sha256}; fetch it again from {archive.url}, "
            "or, if this is an archive of your own, consent with `accept_other_checksum: true` in config/config.yaml"
        )
    return found


def fingerprint(path: Path) -> str:
    """sha256 of an archive. Raises DataError where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: unreadable ({error.strerror})") from error


def download(archive: Archive, progress: Progress) -> Path:
    """The archive from its official address, or from the cache of an earlier download.

    Raises:
        Unreachable: there is no way to the address, or it does not answer with the archive.
        DataError: what came has another checksum, or cannot be stored.
    """
    cache = pooch.os_cache("rosetta")
    target = cache / archive.name
    with plain_refusals(cache):
        cache.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        require_space(target, archive.bytes)
    pooch.get_logger().setLevel("WARNING")
    try:
        with (
            progress.stage(f"downloading {archive.name}", archive.bytes) as advance,
            plain_refusals(target, archive.bytes),
        ):
            fetch = pooch.HTTPDownloader(progressbar=Bar(advance), timeout=(CONNECT_SECONDS, READ_SECONDS))
            try:
                path = pooch.retrieve(archive.url, f"sha256:{archive.sha256}", archive.name, cache, downloader=fetch)
            except requests.RequestException as error:
                raise Unreachable(f"{archive.url} cannot be reached ({type(error).__name__})") from error
    except ValueError as error:
        raise DataError(
            f"{archive.url}: wrong checksum: what came is not the archive with sha256 {archive.sha256}; "
            f"fetch it another way and name its folder in {FOLDER_VARIABLE}"
        ) from error
    return Path(path)


class Bar:
    """The progress bar that pooch wants, on top of `advance`."""

    total = 0

    def __init__(self, advance):
        self.update = advance

    def reset(self):
        """Pooch empties and refills a bar at its end, whose length it may not have known."""
        self.update = lambda done: None

    def close(self):
        """Nothing to close."""
