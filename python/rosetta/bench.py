"""`rosetta bench`: runs the pipeline, says what it does, keeps the page current while it runs, and says at the end what came of it.

Snakemake runs as a child and writes into a log file. Its steps send events (`rosetta.events`), between which this process sleeps: nothing of it
runs while a round is timed.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from rosetta import config, events
from rosetta.config import ROOT
from rosetta.plan import REPORTS, Plan
from rosetta.watching import Watch

LOG = REPORTS / "logs" / "snakemake.log"
SUMMARY = str(REPORTS / "summary.html")
TARGETS = (SUMMARY, str(REPORTS / "rosetta.html"))
RUN_LOCK, PAGE_LOCK = REPORTS / ".run.lock", REPORTS / ".page.lock"
PAGE_SECONDS = 60.0
"""Between two running pages, at least."""
END_SECONDS = 30.0
"""That Snakemake gets to end after an interrupt."""
LAST_LINES = 5


def run(plan: Plan, options: list[str], targets: list[str], out: Console) -> int:
    """Runs the pipeline to its end, and gives the exit code.

    Args:
        options: KEY=VALUE words, the settings that `plan` was made of.
        targets: files or rules of the Snakefile; none: the report and the page of code beside code.
    """
    targets = files_of(targets)
    listener = events.Listener()
    watch = Watch(plan, out)
    page = RunningPage(plan, SUMMARY in targets)
    start = time.monotonic()
    end_with_the_terminal()
    with working_alone(out) as lock:
        child = begin(options, targets, listener, lock)
        waiter = threading.Thread(target=lambda: listener.wake("exit", code=child.wait()), daemon=True)
        waiter.start()
        try:
            with watch:
                follow(listener, watch, page)
        except BaseException:
            end(child)
            page.last(watch)
            raise
        finally:
            waiter.join()  # it writes to the listener
            listener.close()
        if child.returncode:
            page.last(watch)
    seconds = time.monotonic() - start
    if child.returncode:
        for line in [] if watch.broken else what_matters(LOG.read_text(errors="replace")):
            out.print(line, markup=False, soft_wrap=True)
        out.print(f"The run stopped; what was finished is kept. All of its output: {LOG}", markup=False, soft_wrap=True)
        return 1
    for line in watch.summary(targets, seconds, whole=SUMMARY in targets):
        out.print(line, markup=False, soft_wrap=True)
    return 0


def files_of(targets: list[str]) -> list[str]:
    """The targets, with the files of the rule `all` instead of its name; it is what no target means too."""
    return [file for target in targets or ["all"] for file in (TARGETS if target == "all" else [target])]


def end_with_the_terminal() -> None:
    """Ends this process when its terminal is closed, unless it was started to outlive it, as nohup does."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(128 + number))


class AnotherRun(Exception):
    """Another run works in this folder."""


def begin(options: list[str], targets: list[str], listener: events.Listener, lock: int) -> subprocess.Popen:
    """Starts Snakemake, with its output in the log; the log of the run before is kept."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    if LOG.exists():
        LOG.replace(LOG.with_name(f"{LOG.name}.1"))
    settings = config.for_snakemake(options)
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", os.getcwd()]
    command += ["--nolock", "--rerun-incomplete", "--cores", str(config.usable_cores()), *targets]
    with open(LOG, "w") as log:
        return subprocess.Popen(
            [*command, *(["--config", *settings] if settings else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **listener.variables},
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
            pass_fds=[lock],  # should this process be killed, the folder stays locked until Snakemake has ended
        )


def follow(listener: events.Listener, watch: Watch, page: "RunningPage") -> None:
    """Takes the events until Snakemake has ended."""
    while not watch.ended:
        for event in listener.wait():
            watch.take(event)
        page.renew(listener, watch)


def end(child: subprocess.Popen) -> None:
    """Interrupts Snakemake and its steps as Ctrl-C in a terminal would, and waits; kills what does not end."""
    for number, seconds in ((signal.SIGINT, END_SECONDS), (signal.SIGTERM, END_SECONDS), (signal.SIGKILL, None)):
        try:
            os.killpg(child.pid, number)
            child.wait(seconds)
            return
        except ProcessLookupError:
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue


@contextmanager
def working_alone(out: Console, wait: bool = True):
    """One run in a folder at a time; a second one waits, or gets AnotherRun. Gives the descriptor of the lock, which ends with the processes that
    hold it.

    Snakemake's own lock would stay behind after a run that was killed.
    """
    REPORTS.mkdir(exist_ok=True)
    with open(RUN_LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise AnotherRun from None
            out.print(f"another run works in {REPORTS.resolve()}; waiting for it", markup=False, soft_wrap=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@contextmanager
def page_lock(wait: bool = True):
    """One writer of the page at a time; gives whether it is held."""
    from filelock import FileLock, Timeout

    lock = FileLock(PAGE_LOCK)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class RunningPage:
    """The page while the pipeline runs: first when the environments stand, then as legs end, at most once a minute."""

    def __init__(self, plan: Plan, wanted: bool):
        self.plan, self.wanted = plan, wanted
        self.written: float | None = None

    def renew(self, listener: events.Listener, watch: Watch) -> None:
        """Writes the page if it is time, unless a leg is being timed. The next round waits until it is written."""
        from rosetta import isolation

        if not self.is_time(watch):
            return
        quiet = isolation.device_lock(self.plan.settings.device, lambda text: None, shared=True, wait=False)
        with quiet as is_quiet, page_lock(wait=False) as is_free:
            # The last page's step speaks before it takes the lock: had it written already, its event would be here now.
            for event in listener.waiting():
                watch.take(event)
            if is_quiet and is_free and self.is_time(watch):
                self.write(watch, f"Running: {watch.counts()}{watch.time_left()}.")

    def is_time(self, watch: Watch) -> bool:
        due = self.written is None or time.monotonic() - self.written >= PAGE_SECONDS
        return self.wanted and due and watch.is_measuring and not watch.ended

    def last(self, watch: Watch) -> None:
        """Says on the page of a run that has ended early that nothing runs any more."""
        # Snakemake has removed the page where the step that writes the last one did not end well.
        is_removed = self.wanted and watch.is_reporting and not Path(SUMMARY).exists()
        if is_removed or (self.written is not None and not watch.is_reporting):
            watch.halt()
            self.write(watch, f"Stopped: {watch.counts()}. The next run goes on from here.")

    def write(self, watch: Watch, line: str) -> None:
        """Writes the page. A fault in it stops no run: the last step writes the page that counts."""
        from rosetta.report import kept, write_running
        from rosetta.report.progress import Progress

        every = kept.everything(self.plan)
        try:
            legs = watch.records() + kept.further(self.plan, every)
            left_out = [leg for leg in kept.left_out(every, legs) if leg.name not in watch.states]
            progress = Progress(line, watch.states_in_words())
            write_running(progress, legs, REPORTS, left_out, self.plan.settings.overrides)
        except Exception as error:
            watch.say(f"the page of the running pipeline could not be written: {error!r}")
            self.wanted = False
        else:
            self.written = time.monotonic()


def what_matters(log: str) -> list[str]:
    """The lines of Snakemake's output that say why it stopped: those of the harness, else the errors, else the last ones."""
    text = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line for line in text if line.startswith("rosetta: ")]
    errors = [
        following
        for line, following in zip(text, text[1:])
        if line.endswith(":") and ("Error" in line or "Exception" in line) and not line.startswith("Error in rule")
    ]
    return list(dict.fromkeys(own or errors or text))[-LAST_LINES:]
