"""`prepare`: the shared arrays of a task, from the first source that has them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..tasks import TASKS, Task
from . import cifar10, imdb, synthetic
from .arrays import MANIFEST, Blocks, DataError, check, load_manifest, locked, write_locked
from .pictures import pictures as draw_pictures
from .progress import Bars, Progress
from .sources import (
    ARCHIVES,
    FOLDER_VARIABLE,
    Archive,
    Unreachable,
    checked,
    download,
    fingerprint,
    in_folder,
    user_folder,
)

SOURCES = ("auto", "real", "synthetic")
FORM = 1
"""Of the arrays; a change in how they are made raises it, and what was prepared before is prepared anew."""
READERS = {"cnn": cifar10.read, "rnn": imdb.read}
REAL = ("official", "archive", "archive with another checksum")


def prepare(
    task_name: str,
    target: Path,
    source: str = "auto",
    folder: Path | None = None,
    accept_other_checksum: bool = False,
    pictures: int = 64,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict:
    """Prepares the shared arrays of a task in `target`, unless they are there already.

    `cnn` and `rnn` get x_train, y_train, x_test and y_test, `resnet50` gets x. Complete or not at all: an error or
    Ctrl-C leaves what was there before.

    Args:
        task_name: cnn, rnn or resnet50.
        target: the folder for the arrays and their manifest.json.
        source: "auto" takes what is prepared already, else an archive in `folder`, else the official address, else
            (with a loud note) synthetic arrays; "real" does the same but for the last; "synthetic" makes synthetic arrays.
        folder: the user's folder with archives; without it, the environment variable ROSETTA_DATA_DIR.
        accept_other_checksum: consent to an archive in the user's folder that is not the published one.
        pictures: how many pictures, for resnet50.
        seed: of synthetic arrays and pictures; without it, the task's.
        progress: is told what happens; without it, bars on standard error.

    Returns:
        The manifest: task, source ("official", "archive", "archive with another checksum", "synthetic" or "seeded"),
        archive (name, sha256; None without one), statement (a line for the report), settings, arrays, sha256.

    Raises:
        DataError: in one line, what is wrong and what mends it.
    """
    if task_name not in TASKS:
        raise DataError(f"{task_name}: no such task; there are {', '.join(TASKS)}")
    if source not in SOURCES:
        raise DataError(f"data source {source!r}: no such source; there are {', '.join(SOURCES)}")
    task, target, progress = TASKS[task_name], Path(target), progress or Bars()
    seed = task.seed if seed is None else seed
    settings = {"form": FORM, "train": task.train, "test": task.test}

    with locked(target, progress):
        prepared = what_is_prepared(target, settings, progress)
        if task.trained:
            folder = user_folder(folder)
            if prepared and serves(prepared, ARCHIVES[task_name], source, folder, accept_other_checksum, seed):
                return prepared
            facts, arrays = find(task, source, folder, accept_other_checksum, seed, progress)
        else:
            settings["pictures"] = pictures
            if prepared and {"seed": seed, **settings}.items() <= prepared["settings"].items():
                return prepared
            facts, arrays = seeded(task, pictures, seed)
        manifest = {"task": task_name, **facts, "settings": {"source": source, "seed": seed, **settings}}
        return write_locked(target, arrays, manifest, bytes_of(task, pictures))


def what_is_prepared(target: Path, settings: dict, progress: Progress) -> dict | None:
    """The manifest of what is in `target`, if that is whole and was made with these settings."""
    if not (target / MANIFEST).exists():
        return None
    try:
        manifest = load_manifest(target)
        check(target)
    except DataError as error:
        progress.note(f"{error}: preparing it anew")
        return None
    return manifest if settings.items() <= manifest.get("settings", {}).items() else None


def serves(
    prepared: dict, archive: Archive, source: str, folder: Path | None, accept_other_checksum: bool, seed: int
) -> bool:
    """Whether what is prepared is what is asked for now, so that nothing has to be done."""
    if prepared["source"] == "synthetic":
        # What "auto" fell back on stays until the user names a folder; what was made on request does not mean "auto".
        fell_back = prepared["settings"]["source"] == "auto"
        wanted = source == "synthetic" or (source == "auto" and fell_back and folder is None)
        return wanted and prepared["settings"]["seed"] == seed
    if source == "synthetic" or (prepared["source"] == REAL[2] and not accept_other_checksum):
        return False
    in_user_folder = folder / archive.name if folder else None
    if in_user_folder and in_user_folder.is_file():
        return fingerprint(in_user_folder) == prepared["archive"]["sha256"]
    return True


def find(task: Task, source: str, folder: Path | None, accept_other_checksum: bool, seed: int, progress: Progress):
    """(facts for the manifest, arrays) from the first source that there is."""
    archive = ARCHIVES[task.name]
    if source == "synthetic":
        return stand_in(task, archive, seed, progress)
    if folder:
        path = in_folder(archive, folder)
        sha256 = checked(archive, path, accept_other_checksum)
        kind = REAL[1] if sha256 == archive.sha256 else REAL[2]
    else:
        try:
            path = download(archive, progress)
        except Unreachable as error:
            way_out = f"fetch {archive.name} another way and name its folder in {FOLDER_VARIABLE}"
            if source == "real":
                raise DataError(
                    f"{task.name}: {error}; {way_out}, or allow synthetic arrays by `data: auto`"
                ) from error
            progress.note(f"WARNING: {error}. Taking SYNTHETIC ARRAYS, NOT {archive.title}. To have it, {way_out}.")
            return stand_in(task, archive, seed, progress)
        kind, sha256 = REAL[0], archive.sha256
    statement = {
        REAL[0]: f"{archive.title}, from its official address",
        REAL[1]: f"{archive.title}, from an archive with the published checksum",
        REAL[2]: f"{archive.title}, from the user's own archive, whose checksum is not the published one",
    }[kind]
    facts = {"source": kind, "archive": {"name": archive.name, "sha256": sha256}, "statement": statement}
    return facts, READERS[task.name](path, task, progress)


def stand_in(task: Task, archive: Archive, seed: int, progress: Progress):
    """(facts, arrays) of synthetic arrays."""
    facts = {"source": "synthetic", "archive": None, "statement": f"synthetic arrays, not {archive.title}"}
    return facts, synthetic.arrays(task, seed, progress)


def seeded(task: Task, pictures: int, seed: int) -> tuple[dict, Iterator[tuple[str, Blocks]]]:
    """(facts, arrays) of seeded pictures."""
    facts = {"source": "seeded", "archive": None, "statement": f"{pictures} pictures of seeded noise, no photographs"}
    return facts, iter([("x", draw_pictures(pictures, task.shape, seed))])


def bytes_of(task: Task, pictures: int) -> int:
    """The disk space that the arrays take: samples of 4 bytes a value (pictures) or 8 (tokens), classes of 8."""
    samples = task.train + task.test if task.trained else pictures
    value = 8 if task.name == "rnn" else 4
    return samples * (int(np.prod(task.shape)) * value + (8 if task.trained else 0))
