"""What the steps of a pipeline tell the `rosetta bench` that started it: one line of JSON for each start and end, through a named pipe.

The pipe's path stands in the variable ROSETTA_EVENTS. Without it, nothing is sent. Telling never blocks a step and never fails it.
"""

import json
import os
import select
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "ROSETTA_EVENTS"
ATOMIC_BYTES = 4096
"""What is written to a pipe at once and is not longer than this arrives in one piece, whoever else writes (PIPE_BUF of Linux)."""


def are_heard() -> bool:
    """Whether a `rosetta bench` listens to this process."""
    return bool(os.environ.get(VARIABLE))


def send(event: str, **fields) -> None:
    """Sends one event. What is too long for one piece goes into a file beside the pipe, of which the pipe gets the path."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = json.dumps({"event": event, **fields}).encode() + b"\n"
    with suppress(OSError):
        if len(line) > ATOMIC_BYTES:
            handle, file = tempfile.mkstemp(dir=os.path.dirname(path))
            with open(handle, "wb") as stream:
                stream.write(line)
            line = json.dumps({"file": file}).encode() + b"\n"
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, line)
        finally:
            os.close(pipe)


@contextmanager
def step(kind: str, name: str, number: int = 0) -> Iterator[dict]:
    """Says that a step starts and how it ended.

    Gives a dict for what came of it: its "status" is ok until the step says otherwise, its "reason" is empty.
    """
    what = {"kind": kind, "name": name, "number": number}
    outcome = {"status": "ok", "reason": ""}
    start = time.monotonic()
    send("start", **what)
    try:
        yield outcome
    except BaseException as error:
        outcome.update(status="failed", reason=str(error) or type(error).__name__)
        raise
    finally:
        reason = outcome["reason"][: ATOMIC_BYTES // 8]  # an event of a step fits into one piece
        send("end", **what, status=outcome["status"], reason=reason, seconds=time.monotonic() - start)


class Listener:
    """The reading end. `variables` are those of the processes that are listened to."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="rosetta-")
        path = Path(self._folder.name, "events")
        os.mkfifo(path)
        # Open for writing too: the pipe then never ends when a writer closes it.
        self._pipe = os.open(path, os.O_RDWR)
        self._rest = b""
        self.variables = {VARIABLE: str(path)}

    def wait(self) -> list[dict]:
        """Blocks until there are events, and gives all of them."""
        *lines, self._rest = (self._rest + os.read(self._pipe, 1 << 20)).split(b"\n")
        return [self._whole(json.loads(line)) for line in lines if line]

    def waiting(self) -> list[dict]:
        """The events that are there already; does not block."""
        return self.wait() if select.select([self._pipe], [], [], 0)[0] else []

    @staticmethod
    def _whole(event: dict) -> dict:
        return json.loads(Path(event["file"]).read_bytes()) if "file" in event else event

    def wake(self, event: str, **fields) -> None:
        """Sends an event to itself, from another thread."""
        os.write(self._pipe, json.dumps({"event": event, **fields}).encode() + b"\n")

    def close(self) -> None:
        os.close(self._pipe)
        self._folder.cleanup()
