"""What a GPU that is there for ten minutes is used for: one round of the legs that matter, their proofs, then more rounds.

    benchmarks/gpu.sh OUT                                     on the machine with the GPU; again, to go on where it ended
    benchmarks/gpu.sh OUT --only golden                       golden values beforehand, without a GPU: OUT/golden; take it along as .golden
    benchmarks/gpu.sh OUT --device cpu --legs python/jax/cnn -c profile=smoke -c deployment=isolated      a rehearsal

Every record is a line of OUT/records.jsonl as soon as it exists; what is there with the status ok is not run again. OUT/failures.log has the last
lines of what failed. A job that is not expected to end in time is not started, and one that is cut off by the end leaves no record.
"""

import hashlib
import json
import multiprocessing
import os
import queue
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import psutil
import threadpoolctl
import typer
from rosetta import cli, environments, isolation, machine, measuring, prepare, records
from rosetta.config import ROOT, ConfigError, usable_cores
from rosetta.frameworks import Leg, discover, matches, unknown, unsupported
from rosetta.plan import Golden, Plan
from rosetta.tasks import Task

PYTORCH = ("pytorch-graph", "pytorch-compile", "pytorch")
ORDER = (
    ((*PYTORCH, "jax"), ("cnn",), ("fp32", "bf16")),
    (("pytorch-graph", "pytorch", "jax"), ("rnn",), ("fp32",)),
    (("pytorch-graph", "pytorch-compile", "jax"), ("resnet50",), ("bf16",)),
    (("keras-jax", "keras-torch"), ("cnn", "rnn"), ("fp32",)),
    ((*PYTORCH, "jax"), ("cnn",), ("tf32",)),
    ((*PYTORCH, "jax"), ("rnn",), ("fp32", "tf32", "bf16")),
    (("pytorch",), ("resnet50",), ("bf16",)),
    (("onnxruntime",), ("resnet50",), ("tf32",)),
    (("tinygrad",), ("cnn", "rnn"), ("fp32",)),
)
"""(frameworks, tasks, precisions) in the order in which they are measured and proven: first what says how fast a GPU can be used."""

SETTINGS = (
    "profile=full",
    "data=synthetic",
    "deployment=current",
    "rounds=1",
    "proof=small",
    "work.cnn.epochs=3",
    "work.cnn.test_samples=1024",
    "work.rnn.epochs=3",
    "work.rnn.test_samples=1024",
    "work.resnet50.epochs=5",
)
"""The job of 2018 with fewer epochs, and fewer samples to score."""

UNKNOWN_SECONDS = 30.0
"""What a proof or a round is expected to take before that leg has had one."""

ENDING_SECONDS = 5.0
"""How long killed workers may take to be gone."""

LOOKS = {
    "torch": "print(torch.cuda.get_device_name() if cuda else 'cpu', 'CUDA', torch.version.cuda)",
    "jax": "print(*jax.devices('gpu' if cuda else 'cpu'))",
    "onnxruntime": "found = onnxruntime.get_available_providers(); print(*found)\n"
    "if cuda and 'CUDAExecutionProvider' not in found: sys.exit('no CUDAExecutionProvider: ' + ', '.join(found))",
}
"""For a library that can say whether it sees the device: code that prints what it sees, and fails where that is not what is asked for."""

LOOK_SECONDS = 90.0


@dataclass(frozen=True)
class Job:
    """A leg's proof, number 0, or one of its rounds."""

    plan: Plan
    leg: Leg
    number: int

    @property
    def kind(self) -> str:
        return "round" if self.number else "proof"

    @property
    def series(self) -> tuple[str, str, str, str]:
        """What all rounds of a leg under the same settings have in common."""
        return self.leg.name, self.plan.settings.precision, self.plan.settings.device, self.kind

    @property
    def name(self) -> tuple:
        return (*self.series, self.number)


def series_of(record: dict) -> tuple[str, str, str, str]:
    return record["leg"], record["precision"], record["device"], record["kind"]


@dataclass
class Session:
    """What has been done, in OUT and since the start.

    Attributes:
        folder: OUT.
        deadline: of time.monotonic.
        kept: the records in records.jsonl.
        failed: the series that did not end well since the start, which are not tried again before the next one.
    """

    folder: Path
    deadline: float
    kept: list[dict] = field(default_factory=list)
    failed: set[tuple] = field(default_factory=set)

    @property
    def file(self) -> Path:
        return self.folder / "records.jsonl"

    def read(self) -> None:
        """Reads the records of earlier sessions. A line that was cut off says nothing."""
        for line in self.file.read_text().splitlines() if self.file.exists() else ():
            with suppress(ValueError):
                self.kept.append(json.loads(line))

    def keep(self, job: Job, record: dict) -> None:
        self.kept.append(record)
        with open(self.file, "a+") as file:
            # The last line may have been cut off.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            file.write("\n" * (file.read() not in ("", "\n")) + json.dumps(record) + "\n")
        if record["status"] != "ok":
            self.fail(job, record)
        self.say(job, record["status"], seconds(record), record["reason"])

    def fail(self, job: Job, record: dict) -> None:
        self.failed.add(job.series)
        log = Path(record["log"])
        if log.exists():
            last = log.read_text(errors="replace").splitlines()[-40:]
            with open(self.folder / "failures.log", "a") as file:
                header = f"{' '.join(map(str, job.name))}: {record['status']}: {record['reason']}"
                print(header, *last, "", sep="\n", file=file)

    def say(self, job: Job, status: str, found: float | None, reason: str) -> None:
        what = f"{job.kind} {job.number}" if job.number else job.kind
        timed = f"{found:9.4f} s" if found else " " * 11
        words = f"{job.leg.name:<31} {job.plan.settings.precision} {what:<8} {status:<11} {timed}  {reason[:150]}"
        print(f"{self.left():4.0f} s left  {words}".rstrip(), flush=True)

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def done(self, job: Job) -> bool:
        return any(
            record["status"] == "ok" and (*series_of(record), record["round"]) == job.name for record in self.kept
        )

    def fits(self, job: Job) -> bool:
        """Whether a job may be started: its like has not failed, and it is expected to end in time."""
        leg, _, *like = job.series
        like = [r["outer_seconds"] for r in self.kept if [r["leg"], r["device"], r["kind"]] == [leg, *like]]
        return job.series not in self.failed and (max(like, default=0) or UNKNOWN_SECONDS) <= self.left()


def seconds(record: dict) -> float | None:
    """The median of an epoch, or of a pass; None for a proof and for what was not timed."""
    found = records.planned_seconds(record)
    return statistics.median(found) if found else None


# What is run


def planned(words: list[str], precisions: list[str]) -> list[tuple[str, str]]:
    """(leg, precision) in ORDER. Words and precisions leave out the others; legs that were named together with precisions are all run."""
    pairs = [
        (f"python/{framework}/{task}", precision)
        for frameworks, tasks, given in ORDER
        for task in tasks
        for precision in given
        for framework in frameworks
    ]
    legs = discover()
    for word in words:
        if not any(matches(leg, word) for leg in legs):
            raise ConfigError(unknown(word))
    named = [leg.name for leg in legs if any(matches(leg, word) for word in words)]
    if words and precisions:
        pairs += [(name, precision) for precision in precisions for name in named]
    return [
        (name, precision)
        for name, precision in dict.fromkeys(pairs)
        if (not words or name in named) and (not precisions or precision in precisions)
    ]


def jobs(pairs: list[tuple[str, str]], overrides: list[str]) -> list[Job]:
    """The proof of each pair that this checkout has a leg of."""
    legs = {leg.name: leg for leg in discover()}
    found = []
    for name, precision in pairs:
        if name in legs:
            settings = cli.settings([*SETTINGS, *overrides, f"precision={precision}"])
            found.append(Job(Plan(settings, (legs[name],), apart=True), legs[name], 0))
        else:
            print(f"skipped: {name} {precision}: this checkout has no such leg", flush=True)
    return found


# What can be run


def runnable(proofs: list[Job]) -> list[Job]:
    """Says what the libraries see, prepares the arrays meanwhile, and leaves out what cannot run here, with the reason."""
    reasons, made, looks, needed, tasks = {}, {}, {}, {}, {}
    for job in proofs:
        plan, leg, environment = job.plan, job.leg, job.leg.framework.environment
        reason = leg.framework.retired or unsupported(leg, plan.settings)
        if not reason:
            made[environment] = made.get(environment) or measuring.provide(plan, environment)
            reason = measuring.obstacle(leg, plan.settings, made[environment])
        reasons[job.name], needed[job.name] = reason, []
        if not reason:
            python = environments.interpreter(made[environment], plan.settings)
            needed[job.name] = [(python, library) for library in leg.framework.libraries]
            tasks[leg.task.name] = plan, leg.task
            for key in needed[job.name]:
                looks[key] = looks.get(key) or look(*key, made[environment], plan)
    for plan, task in tasks.values():
        measuring.ensure_arrays(plan, task)
    missing = {key: answer(*key, process) for key, process in looks.items()}
    for job in proofs:
        reason = reasons[job.name] or "; ".join(missing[key] for key in needed[job.name] if missing[key])
        reasons[job.name] = reason
        if reason:
            print(f"skipped: {job.leg.name} {job.plan.settings.precision}: {reason}", flush=True)
    return [job for job in proofs if not reasons[job.name]]


def look(python: str, library: str, made: dict, plan: Plan) -> subprocess.Popen:
    """Starts a process that imports a library and prints its version and what it sees of the device."""
    cuda = plan.settings.device == "cuda"
    code = f"import sys, {library}; from importlib import metadata; cuda = {cuda}\n"
    code += f"print(getattr({library}, '__version__', None) or metadata.version('{library}'), end=' ')\n"
    # Keras imports its backend, and nobody says here which; JAX takes most of the memory unless told otherwise.
    backend = "torch" if find_spec("torch") else "jax"
    extra = {**made["variables"], "KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    variables = isolation.variables(plan.settings.threads, plan.settings.device, extra, plan.settings.deployment)
    command = [python, "-c", code + LOOKS.get(library, "print()")]
    return subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def answer(python: str, library: str, process: subprocess.Popen) -> str:
    """Prints what a library said; gives why it cannot be used, or an empty text."""
    try:
        out, error = process.communicate(timeout=LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, error = process.communicate()
        error += f"\nno answer for {LOOK_SECONDS:g} s"
    if process.returncode:
        lines = [line.strip() for line in error.splitlines() if line.strip()]
        reason = f"{library}: {lines[-1][:200] if lines else f'code {process.returncode}'}"
        print(f"missing: {reason} ({python})", flush=True)
        return reason
    print(f"{library}: {' '.join(out.split())}", flush=True)
    return ""


# Golden values


def sources(plan: Plan, task: Task) -> str:
    """Says what golden values come from: those that were made from something else do not count."""
    parts = [path.read_bytes() for path in prepare.golden_sources()]
    parts += [prepare.manifest(folder)["sha256"].encode() for folder in (plan.arrays(task), plan.weights(task))]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def ensure_goldens(session: Session, proofs: list[Job], folder: Path) -> list[Job]:
    """Takes golden values from `folder`, makes the others, several at a time, and keeps all in OUT/golden.

    Returns:
        The proofs whose golden values are there.
    """
    wanted = {
        golden.path: (job.plan, job.leg.task, golden) for job in proofs for golden in job.plan.goldens(job.leg.task)
    }
    for plan, task, golden in wanted.values():
        fetch(folder / task.name, plan, task, golden)
    missing = [it for it in wanted.values() if it[2] in measuring.missing_goldens(it[0], it[1])]
    if missing:
        at_once = min(len(missing), max(1, usable_cores() // 2))
        print(f"computing golden values in float64: {len(missing)} files, {at_once} at a time", flush=True)
        # A process each: the reference keeps how it rounds in its module.
        pool = multiprocessing.get_context("spawn").Pool(at_once, keep_to, [usable_cores() // at_once])
        with pool, suppress(multiprocessing.TimeoutError):
            pool.starmap_async(prepare.golden, missing, chunksize=1).get(
                max(0, min(session.left(), threading.TIMEOUT_MAX))
            )
    for plan, task, golden in wanted.values():
        if golden not in measuring.missing_goldens(plan, task):
            kept = session.folder / "golden" / task.name
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(golden.path, kept / golden.path.name)
            (kept / "sources.txt").write_text(sources(plan, task))
    return [job for job in proofs if not measuring.missing_goldens(job.plan, job.leg.task)]


def keep_to(threads: int) -> None:
    """Sets up a process that computes golden values: Ctrl-C is for the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpoolctl.threadpool_limits(threads)


def fetch(folder: Path, plan: Plan, task: Task, golden: Golden) -> None:
    """Copies golden values that were made elsewhere from the same arrays, by the same code. The copy's date is of now."""
    path, stated = folder / golden.path.name, folder / "sources.txt"
    if not path.exists() or golden not in measuring.missing_goldens(plan, task):
        return
    if not stated.exists() or stated.read_text() != sources(plan, task):
        print(f"{path} was made from other arrays or by other code; it is made anew", flush=True)
        return
    golden.path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, golden.path)


# The running


def carry_out(session: Session, waiting: Iterable[Job], at_once: int) -> None:
    """Runs the jobs that are not done, in their order, as long as they fit into the time; keeps each record when it comes."""
    waiting, ended, running = [job for job in waiting if not session.done(job)], queue.Queue(), 0
    try:
        while True:
            while running < at_once and (job := next(filter(session.fits, waiting), None)):
                waiting.remove(job)
                threading.Thread(target=run, args=(job, ended), daemon=True).start()
                running += 1
            if not running:
                if late := sum(job.series not in session.failed for job in waiting):
                    print(f"{late} not started: they are not expected to end in time", flush=True)
                break
            job, record = ended.get(timeout=max(0, session.left()))
            running -= 1
            if isinstance(record, dict):
                session.keep(job, record)
            else:
                session.failed.add(job.series)
                session.say(job, "failed", None, f"{type(record).__name__}: {record}")
    except queue.Empty:
        print(f"time is over: {running} running cut off, {len(waiting)} not started", flush=True)
    finally:
        end(ended, running)


def run(job: Job, ended: queue.Queue) -> None:
    """Runs a job and puts (job, record, or the error that kept it from having one) into the queue."""
    try:
        plan, leg = job.plan, job.leg
        record = measuring.measure(plan, leg, job.number) if job.number else measuring.prove(plan, leg, together=True)
    except Exception as error:
        record = error
    ended.put((job, record))


def end(ended: queue.Queue, running: int) -> None:
    """Kills the workers that are left, each with its session, and waits until those who started them have noticed."""
    stop = time.monotonic() + ENDING_SECONDS
    while running and time.monotonic() < stop:
        for child in psutil.Process().children():
            with suppress(ProcessLookupError):  # it has ended, or leads no session of its own
                os.killpg(child.pid, signal.SIGKILL)
        with suppress(queue.Empty):
            ended.get(timeout=0.2)
            running -= 1


def table(kept: list[dict]) -> None:
    """The fastest first: what each leg's proof said, and the median of all its epochs in all good rounds."""
    rows = {}
    for record in kept:
        leg, precision, device, kind = series_of(record)
        row = rows.setdefault((record["task"], precision, device, leg), {"proof": "-", "rounds": 0, "epochs": []})
        if kind == "proof":
            row["proof"] = record["status"]
        elif record["status"] == "ok":
            row["rounds"] += 1
            row["epochs"] += records.planned_seconds(record)
    print(f"\n{'leg':<31} {'precision':<9} {'device':<6} {'proof':<11} {'rounds':>6} {'seconds':>9}")
    order = sorted(rows, key=lambda row: (*row[:3], statistics.median(rows[row]["epochs"] or [float("inf")])))
    for task, precision, device, leg in order:
        row = rows[task, precision, device, leg]
        median = f"{statistics.median(row['epochs']):9.4f}" if row["epochs"] else f"{'-':>9}"
        print(f"{leg:<31} {precision:<9} {device:<6} {row['proof']:<11} {row['rounds']:>6} {median}")


def main(
    out: Annotated[Path, typer.Argument(help="a folder for records.jsonl and all that is made on the way")],
    legs: Annotated[str, typer.Option(help="only these: legs or patterns, parted by commas")] = "",
    precisions: Annotated[
        str, typer.Option(help="only these; with --legs, each of those legs in each of these, planned or not")
    ] = "",
    only: Annotated[str, typer.Option(help="rounds, proofs, or golden: golden values alone")] = "",
    device: Annotated[str, typer.Option(help="cuda, or cpu for a rehearsal")] = "cuda",
    minutes: Annotated[
        float, typer.Option(help="after which it ends; golden values alone take as long as they take")
    ] = 7.0,
    timeout: Annotated[float, typer.Option(help="seconds of a proof or a round after which it is killed")] = 120.0,
    rounds: Annotated[int, typer.Option(help="of each leg at most")] = 20,
    proofs_at_once: Annotated[int, typer.Option(help="as many as the GPU's memory has room for")] = 4,
    golden: Annotated[
        Path, typer.Option(help="a folder `golden` that an earlier session left in its OUT", show_default=".golden")
    ] = ROOT / ".golden",
    overrides: Annotated[list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE")] = None,
):
    session = Session(out.resolve(), time.monotonic() + 60 * minutes if only != "golden" else float("inf"))
    golden = golden.resolve()
    workdir = session.folder / "work"
    workdir.mkdir(parents=True, exist_ok=True)
    os.environ["ROSETTA_WORKDIR"] = str(workdir)
    words = [*(overrides or []), f"device={device}", f"timeout_seconds={timeout:g}"]
    with cli.plain_errors():
        if only not in ("", "rounds", "proofs", "golden"):
            raise cli.Typo(f"--only {only}: write rounds, proofs or golden")
        if cli.settings([*SETTINGS, *words]).deployment == "current":
            os.environ.setdefault("ROSETTA_ENVIRONMENTS", str(workdir / "environments"))
        session.read()
        proofs = jobs(planned(split(legs), split(precisions)), words)
        if only == "golden":
            for plan, task in {job.leg.task.name: (job.plan, job.leg.task) for job in proofs}.values():
                measuring.ensure_arrays(plan, task)
            ensure_goldens(session, proofs, golden)
            return
        print("GPUs:", *map(json.dumps, machine.gpus()), flush=True)
        proofs = runnable(proofs)
        try:
            everything(session, proofs, only, rounds, proofs_at_once, golden)
        finally:
            table(session.kept)


def everything(session: Session, proofs: list[Job], only: str, rounds: int, proofs_at_once: int, golden: Path) -> None:
    """A round of each, the proofs that are missing, more rounds."""

    def round_(number: int) -> list[Job]:
        return [Job(job.plan, job.leg, number) for job in proofs]

    if only != "proofs":
        carry_out(session, round_(1), 1)
    if only != "rounds":
        missing = [job for job in proofs if not session.done(job)]
        for task in dict.fromkeys(job.leg.task.name for job in missing):
            fitting = [job for job in missing if job.leg.task.name == task and session.fits(job)]
            carry_out(session, ensure_goldens(session, fitting, golden), proofs_at_once)
    for number in range(2, rounds + 1) if only != "proofs" else ():
        if not any(map(session.fits, round_(number))):
            break
        carry_out(session, round_(number), 1)


def split(text: str) -> list[str]:
    return text.replace(",", " ").split()


if __name__ == "__main__":
    typer.run(main)
