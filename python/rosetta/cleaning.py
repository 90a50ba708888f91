"""What a checkout has made and `rosetta clean` removes: each thing by its name, with the disk space that this frees."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch

from rosetta import environments
from rosetta.bench import PAGE_LOCK, RUN_LOCK
from rosetta.config import ROOT
from rosetta.data.sources import ARCHIVES
from rosetta.plan import HISTORY, REPORTS, SHARED

MADE = SHARED / "environments"
"""Where the set-ups of environments leave what they found."""
LANGUAGES = (ROOT / ".julia", ROOT / ".r")
"""Where Julia and the packages of Julia and R are put, unless a variable names another folder, which is left alone."""
AGAIN = "The next run makes them again, and then measures again what was measured with them"


@dataclass(frozen=True)
class Thing:
    """Files that are removed together.

    Attributes:
        what: what is removed, in words.
        then: a sentence: what stays, and what the next run does.
        places: the folders that the files lie in, for people.
        of_a_run: whether a running pipeline reads or writes them.
    """

    name: str
    what: str
    then: str
    places: tuple[Path, ...]
    paths: tuple[Path, ...]
    of_a_run: bool = True


@dataclass(frozen=True)
class Space:
    """Bytes on disk.

    Attributes:
        freed: what removing gives back.
        shared: what stays on disk, because other folders have hard links to the same files, as uv's cache has.
    """

    freed: int
    shared: int


def things() -> dict[str, Thing]:
    """Everything that can be removed, by name."""
    archives = pooch.os_cache("rosetta")
    found = [
        Thing(
            "reports",
            "the pages, the logs and the measured records of proofs and rounds",
            f"{HISTORY}, which keeps every record ever written, stays; the next run measures again",
            (REPORTS,),
            tuple(path for path in inside(REPORTS) if path not in (HISTORY, RUN_LOCK, PAGE_LOCK)),
        ),
        Thing(
            "environments",
            "the packages that the legs run in, with the Julia and the R packages that were installed for them",
            AGAIN,
            (environments.folder(), *(place for place in LANGUAGES if place.exists())),
            (*made_environments(), *(path for place in LANGUAGES for path in inside(place)), *inside(MADE)),
        ),
        Thing(
            "data",
            "the prepared arrays, initial weights and golden values",
            AGAIN,
            (SHARED,),
            tuple(path for path in inside(SHARED) if path != MADE),
        ),
        Thing(
            "archives",
            "the downloaded archives of CIFAR-10 and IMDB",
            "The prepared data stay",
            (archives,),
            tuple(path for it in ARCHIVES.values() if (path := archives / it.name).exists()),
            of_a_run=False,
        ),
    ]
    return {thing.name: thing for thing in found}


def made_environments() -> list[Path]:
    """What set-ups left in the folder of environments. The folder may be the user's and hold other things, which are left alone."""
    found = inside(environments.folder())
    names = {path.stem for path in environments.REQUIREMENTS.glob("*.lock")}
    names |= {path.name for path in found if (path / "rosetta.json").exists()}  # some of them an older version's
    left = {f"{name}{ending}" for name in names for ending in ("", ".log", ".lock", "-build.txt", "-libraries")}
    return [path for path in found if path.name in left]


def inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def space(paths: tuple[Path, ...]) -> Space:
    """The space that files and folders take, and how much of it is freed by removing them."""
    blocks, links, found = {}, {}, {}
    for path in paths:
        for status in statuses(path):
            key = (status.st_dev, status.st_ino)
            blocks[key], links[key] = status.st_blocks * 512, status.st_nlink
            found[key] = found.get(key, 0) + 1
    freed = sum(blocks[key] for key in found if found[key] >= links[key])
    return Space(freed, sum(blocks.values()) - freed)


def statuses(path: Path) -> Iterator[os.stat_result]:
    """Of all files below a path. A link counts as itself, never as what it points to."""
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from statuses(Path(entry.path))
                else:
                    yield entry.stat(follow_symlinks=False)
    else:
        yield path.lstat()


def remove(thing: Thing) -> None:
    for path in thing.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
