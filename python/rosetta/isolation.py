"""One leg, alone, in a process of its own: started, watched from outside, ended whatever state it is in."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rosetta.config import ROOT

LOOK_SECONDS = 1.0
"""Between two looks at a worker's events and memory. A look takes a millisecond of a processor that the worker is being timed on, and where all
of a parallel loop's threads wait for the last one, all of them pay for it. Between the looks nothing of the harness runs: psutil lets the kernel tell
it when the worker ends, where `subprocess` would ask twenty times a second."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass
class Outcome:
    """How a worker's process ended, and everything it said.

    Attributes:
        status: ok, failed, timeout, out-of-memory, unavailable or unsupported.
        events: in the order in which they were sent; complete up to the moment of the end.
        peak_memory_mb: highest sum of the resident memory of the worker and its children that was seen.
    """

    status: str
    reason: str
    events: list[dict] = field(default_factory=list)
    outer_seconds: float = 0.0
    peak_memory_mb: float | None = None

    def of(self, event: str) -> list[dict]:
        return [{k: v for k, v in e.items() if k != "event"} for e in self.events if e["event"] == event]


@contextlib.contextmanager
def device_lock(device: str, say: Callable[[str], None], shared: bool = False, wait: bool = True):
    """One timed leg per device at a time, across all pipelines and users of the machine. Waits, and says so; gives whether it is held.

    What is not timed may share the device with its like, but never with a leg that is. With `wait=False` it gives False at once where it
    cannot be had now.
    The file lies in /tmp whatever TMPDIR says, and once it is there it is opened for reading: that is enough for flock,
    and Linux lets no one create or write another user's file there.
    """
    path = Path("/tmp") / f"rosetta-{device}.lock"
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if not path.exists():
        with contextlib.suppress(FileExistsError, PermissionError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o644))
    with open(path) as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            say(f"another measurement holds {device} (lock {path}); waiting for it")
            fcntl.flock(file, kind)
        yield True


CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
"""Folders for what was compiled, if the user named any: what lies there would hide what a first step costs."""


def variables(threads: int, device: str, extra: dict[str, str], deployment: str = "isolated") -> dict[str, str]:
    """The environment of a worker: the same number of threads for every library, and the harness's own half to import.

    An isolated one imports what its lock names and nothing else. With `current` the user's own packages count too: those on
    PYTHONPATH, as modules of a cluster put them there, and those in the home folder.
    """
    own = {name: str(threads) for name in THREAD_VARIABLES}
    own.update(PYTHONPATH=str(ROOT / "python"), PYTHONUNBUFFERED="1")
    if deployment == "isolated":
        own["PYTHONNOUSERSITE"] = "1"
    elif given := os.environ.get("PYTHONPATH"):
        own["PYTHONPATH"] += os.pathsep + given
    if device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    return {**{name: value for name, value in os.environ.items() if name not in CACHES}, **own, **extra}


def run(
    python: str,
    job: dict,
    environment: dict[str, str],
    log: Path,
    timeout: float,
    listen: Callable[[dict], None] = lambda event: None,
) -> Outcome:
    """Runs `python -m rosetta.worker` on a job.

    Args:
        job: everything a worker needs but `events` and `parent`.
        environment: the variables of the process.
        log: takes the output of the process.
        timeout: seconds after which the process and its children are killed.
        listen: called with each event as it comes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rosetta-") as folder, open(log, "w") as output:
        events_path, job_path = Path(folder, "events.jsonl"), Path(folder, "job.json")
        events_path.touch()
        job_path.write_text(json.dumps({**job, "events": str(events_path), "parent": os.getpid()}))
        killed_before = oom_kills()
        start = time.perf_counter()
        try:
            process = psutil.Popen(
                [python, "-m", "rosetta.worker", str(job_path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "TMPDIR": folder},
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(
                "failed",
                f"{python} cannot be started ({error.strerror}); `rosetta setup NAME` makes the environment NAME again",
            )
        events, peak, late = [], 0, False
        with open(events_path) as stream:
            try:
                while True:
                    left = timeout - (time.perf_counter() - start)
                    late = left <= 0
                    if late:
                        break
                    try:
                        process.wait(min(LOOK_SECONDS, left))
                        break
                    except psutil.TimeoutExpired:
                        peak = max(peak, memory(process))
                        follow(stream, events, listen)
            finally:
                end(process)
            seconds = time.perf_counter() - start
            follow(stream, events, listen)
    status, reason = verdict(process.returncode, late, timeout, events, oom_kills() > killed_before, log)
    peak = max([peak] + [event["bytes"] for event in events if event["event"] == "memory"])
    return Outcome(status, reason, events, seconds, round(peak / 1e6, 1) if peak else None)


def follow(stream, events: list[dict], listen: Callable[[dict], None]) -> None:
    """Reads the whole lines that have come; half a line stays for the next time."""
    while True:
        place = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(place)
            return
        events.append(json.loads(line))
        listen(events[-1])


def end(process: psutil.Popen) -> None:
    """Kills the whole session, so that no child of a worker outlives it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory since it started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def verdict(
    code: int, late: bool, timeout: float, events: list[dict], out_of_memory: bool, log: Path
) -> tuple[str, str]:
    """Status and reason of an ended process."""
    if late:
        return "timeout", f"still running after {timeout:g} s, the limit timeout_seconds; killed"
    for event in events:
        if event["event"] == "error":
            return event["status"], event["reason"]
    if any(event["event"] == "done" for event in events) and code == 0:
        return "ok", ""
    if code < 0:
        name = signal.Signals(-code).name
        if code == -signal.SIGKILL and out_of_memory:
            return "out-of-memory", "killed by the kernel for lack of memory; use a smaller profile or a larger machine"
        return "failed", f"its process was killed by {name} (see {log})"
    return "failed", f"its process ended with code {code} before it was done (see {log})"
