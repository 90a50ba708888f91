"""Records: what a leg's run leaves behind, checked against a schema when written and when read.

A *round* record is one process that was timed, a *proof* record one process that was compared with the golden values.
A *leg* record gathers a leg's proof and rounds, and is what the report reads.
"""

import json
import os
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import jsonschema

STATUSES = {
    "ok": "ran, and computes the same network",
    "mismatch": "ran, but its numbers differ from the reference by more than the tolerance",
    "variant": "computes another form of the network, knowingly",
    "unavailable": "cannot run on this machine",
    "unsupported": "the library lacks the device or the precision",
    "retired": "runs nowhere any more; what is known of it is history",
    "failed": "ended with an error",
    "timeout": "was stopped at its time limit",
    "out-of-memory": "needed more memory than there was",
    "invalid": "measured something impossible",
}
PROVEN = {"ok", "variant"}
"""Statuses of a leg that computes what it is said to compute."""
EXCUSED = {"unavailable", "unsupported", "retired"}
"""Statuses of a leg that cannot run here and is no fault of anybody's."""


class RecordError(Exception):
    """A record that is missing, unreadable or not of the schema."""


@cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(Path(__file__).with_name("record.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema)


def check(record: dict, name: str) -> dict:
    """The record itself, or RecordError with the first thing that is wrong in it."""
    error = next(iter(validator().iter_errors(record)), None)
    if error:
        place = "/".join(map(str, error.absolute_path)) or "record"
        raise RecordError(f"{name}: {place}: {error.message[:200]}; delete the file and run the leg again")
    return record


def write(path: Path, record: dict) -> None:
    """Writes a record so that `path` holds either the old or the new one, whole, at any moment."""
    check(record, str(path))
    write_text(path, json.dumps(record, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_changed(path: Path, text: str) -> None:
    """Writes a text file unless it says the same already: then it keeps its date, by which others tell whether it has changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def good_rounds(leg: dict) -> list[dict]:
    """The rounds that are measured from."""
    return [run for run in leg["rounds"] if run["status"] == "ok"]


def planned_steps(work: dict) -> int:
    """Steps of a whole epoch: training takes whole batches only."""
    return work["samples"] // work["batch"]


def steps(phase: dict, work: dict) -> int:
    """Steps that a timed call of train ran: those of a whole epoch, or fewer under a time budget."""
    return phase.get("steps", planned_steps(work))


def planned_seconds(run: dict) -> list[float]:
    """For each timed call the seconds of a whole epoch: its own, or those of its steps times the steps of an epoch."""
    whole = planned_steps(run["work"])
    return [call["seconds"] / steps(call, run["work"]) * whole for call in calls(run)]


def calls(run: dict) -> list[dict]:
    """The timed calls of train, or of predict where nothing is trained."""
    return [phase for phase in run["phases"] if phase["phase"] == "epoch"]


@contextmanager
def replacing(path: Path):
    """A file beside `path` to write into; it takes the place of `path` in one step, or is gone after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such record; run the leg first") from None
    except ValueError as error:
        raise RecordError(f"{path}: not JSON ({error}); delete the file and run the leg again") from None
    return check(record, str(path))


def remember(history: Path, record: dict) -> None:
    """Appends a record to the history, which nothing ever rewrites: a later run loses no earlier result."""
    history.parent.mkdir(parents=True, exist_ok=True)
    with open(history, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def gather(proof: dict, rounds: list[dict]) -> dict:
    """A leg's record from its proof and its rounds.

    The proof decides first, then the rounds: one good round is enough to be `ok`, and the others are warned of.
    Without any round, which only a page made during a run shows, the proof decides alone.
    """
    same = ("leg", "language", "framework", "task", "title", "profile", "device", "precision")
    leg = {"kind": "leg", "record": 1, **{name: proof[name] for name in same}, "proof": proof, "rounds": rounds}
    good = [record for record in rounds if record["status"] == "ok"]
    bad = [record for record in rounds if record["status"] != "ok"]
    decisive = proof if proof["status"] != "ok" else (good or bad or [proof])[0]
    leg["status"], leg["reason"] = decisive["status"], decisive["reason"]
    leg["warnings"] = sorted({warning for record in (proof, *rounds) for warning in record["warnings"]})
    if good and bad:
        leg["warnings"].append(f"{len(bad)} of {len(rounds)} rounds did not end well: {bad[0]['reason']}")
    return leg
