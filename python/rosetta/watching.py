"""What a run has done so far, from its events: how many legs of how many, what runs now, how long it still takes, what failed."""

from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rosetta import estimate, records
from rosetta.estimate import Done, Job, about, took
from rosetta.plan import REPORTS, Plan
from rosetta.records import EXCUSED, PROVEN
from rosetta.report.words import plural

RUNS = {"proof", "round"}
WORDS = {
    "environment": "environment {name}",
    "data": "data of {name}",
    "weights": "initial weights of {name}",
    "golden": "golden values of {name}",
    "proof": "proof of {name}",
    "round": "{name}, round {number}",
    "report": "the page",
}


class Watch(AbstractContextManager):
    """Takes the events of a run and shows them: on a terminal as lines that are drawn anew at each event, else as one plain line for each
    environment and leg that has ended.

    Attributes:
        states: {leg: waiting, running, proven, timed, or the status with which it ended}.
        is_reporting: whether the last page is being written, or was.
        ended: whether Snakemake has ended.
        broken: whether a step has failed that the pipeline cannot go on without, and has said why.
    """

    def __init__(self, plan: Plan, out: Console):
        self.plan, self.out = plan, out
        self.states = {leg.name: "waiting" for leg in plan.legs}
        self.planned = False
        self.is_reporting = self.ended = self.broken = False
        self.lanes = 1
        self.todo: dict[tuple, Job] = {}
        self.left: dict[tuple, Job] = {}
        self.running: dict[tuple, None] = {}
        self.done: list[Done] = []
        self.idle: set[str] = set()
        self.statuses: dict[tuple, str] = {}
        self.reasons: dict[str, str] = {}
        live = out.is_terminal and not out.is_dumb_terminal
        self.live = Live(console=out, auto_refresh=False, transient=True) if live else None

    def __enter__(self):
        if self.live:
            self.live.start()
            self.live.update(self.drawn(), refresh=True)
        return self

    def __exit__(self, *error):
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        self.out.print(line, markup=False, soft_wrap=True)

    # Events

    def take(self, event: dict) -> None:
        """Takes one event, says what has to be said, and draws the lines anew."""
        kind = event["event"]
        if kind == "exit":
            self.ended = True
        elif kind == "plan":
            self.plan_is(event)
        elif kind in ("start", "end"):
            key = (event["kind"], event["name"], event["number"])
            if kind == "start":
                self.starts(key)
            else:
                self.ends(key, event)
        if self.live and not self.ended:
            self.live.update(self.drawn(), refresh=True)

    def plan_is(self, event: dict) -> None:
        self.planned, self.lanes, self.idle = True, event["lanes"], set(event["idle"])
        self.todo = {job.key: job for job in (Job(*fields) for fields in event["jobs"])}
        self.left = dict(self.todo)
        for name in self.states:
            self.earlier(name)
        for line in event["lines"]:
            self.say(line)

    def earlier(self, name: str) -> None:
        """Takes over what earlier runs have left of a leg and this one does not make again."""
        leg = self.plan.leg(name)
        for number in range(self.plan.settings.rounds + 1):
            key = ("round" if number else "proof", name, number)
            try:
                record = None if key in self.todo else records.read(self.plan.run_record(leg, number))
            except records.RecordError:
                continue
            if record:
                self.statuses[key] = record["status"]
                if record["status"] not in PROVEN:
                    self.reasons.setdefault(name, record["reason"])
        if any(key[0] in RUNS and key[1] == name for key in self.statuses):
            self.states[name] = self.state(name)

    def starts(self, key: tuple) -> None:
        kind, name, _ = key
        self.running[key] = None
        self.is_reporting |= key == ("report", str(REPORTS), 0)
        if kind in RUNS and self.states.get(name) in ("waiting", "proven"):
            self.states[name] = "running"

    def ends(self, key: tuple, event: dict) -> None:
        kind, name, number = key
        status, reason = event["status"], event["reason"]
        self.running.pop(key, None)
        job = self.left.pop(key, None) or Job(*key)
        self.todo.setdefault(key, job)
        self.statuses[key] = status
        self.done.append(Done(job, event["seconds"] + estimate.JOB_SECONDS, status not in EXCUSED))
        if kind in RUNS and status in EXCUSED:
            self.stops(name)
        if kind in RUNS:
            self.states[name] = self.state(name)
            if status not in PROVEN and (kind == "proof" or name not in self.reasons):
                self.reasons[name] = reason
        if kind == "environment":
            self.environment_ends(name, status, reason)
        elif kind in RUNS:
            self.run_ends(kind, name, number, status, reason)
        elif status != "ok":
            self.broken = True
            self.say(f"{words(key)} failed: {reason}")

    def stops(self, leg: str) -> None:
        """What is left of a leg that cannot run only writes its records."""
        for key in [key for key in self.left if key[0] in RUNS and key[1] == leg]:
            self.left[key] = Job(*key, estimate.INSTANT_SECONDS)

    def state(self, leg: str) -> str:
        """Of a leg, from what has ended of it, in this run or before."""
        proof = self.statuses.get(("proof", leg, 0), "ok")
        rounds = [status for (kind, name, _), status in self.statuses.items() if (kind, name) == ("round", leg)]
        if any(key[0] in RUNS and key[1] == leg for key in self.running):
            return "running"
        if proof != "ok":
            return proof
        if ("proof", leg, 0) in self.left:
            return "waiting"
        if any(kind == "round" and name == leg for kind, name, _ in self.left):
            return "proven"
        return "timed" if "ok" in rounds or not rounds else rounds[0]

    def environment_ends(self, name: str, status: str, reason: str) -> None:
        if status != "ok":
            self.say(f"environment {name} {status}: {reason}")
        elif not self.live:
            kinds = [key for key in self.todo if key[0] == "environment"]
            ended = [key for key in kinds if key not in self.left]
            self.say(f"environment {name} ready ({len(ended)} of {len(kinds)}){self.time_left()}")

    def run_ends(self, kind: str, name: str, number: int, status: str, reason: str) -> None:
        """A failure is said at once; the end of a proof, or of all rounds of a leg, where the output is no terminal."""
        failed = status not in PROVEN | EXCUSED
        if failed:
            self.say(f"{name} {f'round {number} ' if number else ''}{status}: {reason}")
        if self.live or name in self.idle or any(it[0] == kind and it[1] == name for it in self.left):
            return
        legs = {it[1] for it in self.todo if it[0] == kind} - self.idle
        ended = legs - {it[1] for it in self.left if it[0] == kind}
        if status in EXCUSED:
            word = status
        elif kind == "proof":
            word = "proven" if status in PROVEN else status
        else:
            word = "timed" if any(self.statuses.get(it) == "ok" for it in self.rounds(name)) else status
        if not (failed and word == status):
            self.say(f"{name} {word} ({len(ended)} of {len(legs)}){self.time_left()}")

    def rounds(self, name: str) -> list[tuple]:
        return [key for key in self.todo if key[:2] == ("round", name)]

    # What is known now

    @property
    def is_measuring(self) -> bool:
        """Whether the environments stand and legs are still to be proven or timed."""
        kinds = {kind for kind, _, _ in self.left}
        return self.planned and not self.is_reporting and "environment" not in kinds and bool(kinds & RUNS)

    def seconds_left(self) -> float | None:
        return estimate.remaining(self.left.values(), self.done, self.lanes)

    def time_left(self) -> str:
        seconds = self.seconds_left()
        return "" if seconds is None else f", {about(seconds)} left"

    def counts(self) -> str:
        """`12 of 27 timed`, of the legs that can run here; while none is, `3 of 27 proven`."""
        able = [name for name, state in self.states.items() if name not in self.idle and state not in EXCUSED]
        timed = sum(map(self.is_timed, able))
        return f"{timed or len(self.proven())} of {len(able)} {'timed' if timed else 'proven'}"

    def is_timed(self, name: str) -> bool:
        """Whether the proof and all rounds of a leg have ended, and a round well; whatever the proof says."""
        is_left = any(key[0] in RUNS and key[1] == name for key in self.left)
        return not is_left and any(
            status == "ok" for key, status in self.statuses.items() if key[:2] == ("round", name)
        )

    def proven(self) -> list[str]:
        """Legs whose proof has ended well."""
        return [name for (kind, name, _), status in self.statuses.items() if kind == "proof" and status in PROVEN]

    def states_in_words(self) -> dict[str, str]:
        """The states, with the reason behind a colon where there is one."""
        reasons = self.reasons
        return {
            name: f"{state}: {reasons[name]}" if reasons.get(name) else state for name, state in self.states.items()
        }

    def halt(self) -> None:
        """Nothing runs any more."""
        self.running.clear()
        for name, state in self.states.items():
            if state == "running":
                self.states[name] = self.state(name)

    def records(self) -> list[dict]:
        """Records of the legs that have been proven, with the rounds that are there; nothing that this run has still to make again."""
        from rosetta.report import kept

        found = []
        for leg in self.plan.legs:
            numbers = range(self.plan.settings.rounds + 1)
            there = [it for it in numbers if ("round" if it else "proof", leg.name, it) not in self.left]
            runs = [kept.read(self.plan.run_record(leg, number)) for number in there]
            if 0 in there and runs[0]:
                found.append(records.gather(runs[0], list(filter(None, runs[1:]))))
        return found

    def drawn(self) -> Group:
        """The lines that are drawn on a terminal."""
        ended = len(self.todo) - len(self.left)
        now = ", ".join(map(words, self.running)) or "the next step"
        counts = Table.grid(padding=(0, 1))
        counts.add_row(
            ProgressBar(total=len(self.todo), completed=ended, width=20), f"{self.counts()}{self.time_left()}"
        )
        return Group(counts, Text(f"now: {now}")) if self.todo else Group(Text("now: finding out what has to be done"))

    def summary(self, targets: list[str], seconds: float, whole: bool = True) -> list[str]:
        """What is said at the end of a run that went through.

        Args:
            whole: whether the targets take all legs; else only those count of which something was done.
        """
        made = ", ".join(targets)
        if not self.planned and not self.statuses:
            return [f"Nothing has changed, so nothing had to be done: {made}"]
        done = {name for kind, name, _ in self.todo if kind in RUNS}
        legs = [leg for leg in self.plan.legs if (whole or leg.name in done) and self.plan.record(leg).exists()]
        ended = [records.read(self.plan.record(leg)) for leg in legs]
        ran = sum(record["status"] in PROVEN for record in ended)
        text = [f"Done in {took(seconds)}: {made}"]
        if ended:
            text.append(f"{plural(ran, 'leg')} of {len(ended)} proven and timed.")
        return text + outcomes([(record["leg"], record["status"], record["reason"]) for record in ended])


def outcomes(legs: list[tuple[str, str, str]]) -> list[str]:
    """What did not run, or not well: one line for all legs with the same reason; the retired and the unsupported without theirs.

    Args:
        legs: (name, status, reason).
    """
    from rosetta.announcement import shortened

    groups = {}
    for name, status, reason in legs:
        if status not in PROVEN:
            groups.setdefault((status, "" if status in ("retired", "unsupported") else reason), []).append(name)
    order = sorted(groups, key=lambda group: (group[0] in EXCUSED, group[0] in ("retired", "unsupported")))
    return [
        f"{status}: {', '.join(shortened(groups[status, reason]))}{f': {reason}' if reason else ''}"
        for status, reason in order
    ]


def words(key: tuple) -> str:
    kind, name, number = key
    return WORDS.get(kind, kind).format(name=Path(name).as_posix(), number=number)
