"""The command line. Exit codes: 0 all well, 1 a leg did not end as ok, 2 wrong usage or setting, 3 a leg cannot run here."""

import json
import os
import shlex
import signal
import statistics
import sys
import webbrowser
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from rosetta import __version__, config, events, frameworks
from rosetta.config import ConfigError
from rosetta.plan import REPORTS, Plan
from rosetta.records import EXCUSED, PROVEN
from rosetta.tasks import TASKS

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="One network, every framework, three languages, the same numbers.\n\n"
    "Exit codes: 0 all well; 1 a leg failed, or computes something else; 2 a wrong name or setting; 3 a leg cannot run here.",
    epilog="Example: `rosetta run python/numpy/cnn r/base/cnn -c profile=smoke`",
)
step = typer.Typer(no_args_is_help=True, help="Single steps, as the pipeline runs them.")
app.add_typer(step, name="step", hidden=True)

MEGABYTE = 10**6
PIPED = 1000
"""Columns where the output is no terminal: a row stays one line there, whole, for grep."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--config", "-c", metavar="KEY=VALUE", help="Overrides a key of config/config.yaml; again for more."),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
MARKS = {"ok": "green", "variant": "yellow", **dict.fromkeys(EXCUSED, "yellow")}


class Typo(Exception):
    """A wrong word on the command line."""


class Occupied(Exception):
    """Something else uses what a command would change."""


@contextmanager
def plain_errors():
    """Every expected error is one line on standard error; the working folder is the pipeline's."""
    from rosetta import data, records
    from rosetta.measuring import workdir

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if not workdir().is_dir():
            raise Typo(f"ROSETTA_WORKDIR: there is no folder {workdir()}; make it, or unset the variable")
        os.chdir(workdir())
        yield
    except (ConfigError, Typo) as error:
        err.print(f"rosetta: {error}", markup=False)
        raise typer.Exit(2) from None
    except (data.DataError, records.RecordError, Occupied) as error:
        err.print(f"rosetta: {error}", markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print("rosetta: interrupted; what was finished before is kept")
        raise typer.Exit(130) from None


def settings(overrides: list[str] | None) -> config.Settings:
    """The settings under `KEY=VALUE` words; a dot reaches into a mapping. An empty value is None, as Snakemake has it."""
    values = json.loads(os.environ.get("ROSETTA_CONFIG", "{}"))
    for word in overrides or []:
        key, equals, value = word.partition("=")
        if not equals:
            raise Typo(f"--config {word}: write KEY=VALUE, such as profile=smoke")
        config.put(values, key, value or None)
    return config.load(values)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Shows the version and ends.")] = False):
    if version:
        out.print(f"rosetta {__version__}")
        raise typer.Exit


@app.command("list", epilog="Example: `rosetta list --json`")
def list_legs(as_json: Json = False):
    """Shows every framework with its tasks: LANGUAGE/FRAMEWORK/TASK is a leg, which can be run."""
    with plain_errors():
        legs = frameworks.discover()
        if as_json:
            rows = [
                {"leg": leg.name, "title": leg.framework.title, "group": leg.framework.group, "task": leg.task.title,
                 "environment": leg.framework.environment, "devices": leg.framework.devices, "precisions": leg.framework.precisions,
                 "homepage": leg.framework.homepage,
                 "mapping": leg.framework.mapping, "as_shipped": leg.framework.as_shipped.get(leg.task.name, "")}
                for leg in legs
            ]  # fmt: skip
            print(json.dumps(rows, indent=1))
            return
        rows = {f"{leg.framework.language}/{leg.framework.name}": leg.framework for leg in legs}
        cells = {
            "framework": list(rows),
            "title": [f.title for f in rows.values()],
            "group": [f.group for f in rows.values()],
            "tasks": [" ".join(f.tasks) for f in rows.values()],
            "devices": [" ".join(f.devices) for f in rows.values()],
            "precisions": [" ".join(f.precisions) for f in rows.values()],
        }
        full = sum(max(map(len, [header, *column])) + 2 for header, column in cells.items())
        least = {header: max(map(len, " ".join([header, *column]).split())) + 2 for header, column in cells.items()}
        left_out = []
        for header in ("precisions", "devices", "title", "group"):
            if sum(least.values()) - 2 > out.width:
                left_out.append(header)
                del least[header]
        columns = (uncut(header, cells[header], narrow=full > out.width) for header in least)
        table = Table(*columns, box=None, pad_edge=False)
        for row in zip(*(cells[header] for header in least)):
            table.add_row(*row)
        out.print(table)
        if left_out:
            out.print(f"A wider terminal shows {', '.join(reversed(left_out))} too.", markup=False)


@app.command(epilog="Example: `rosetta doctor -c device=cuda`")
def doctor(as_json: Json = False, overrides: Overrides = None):
    """Says of each leg whether it is ready, or what is missing and the command that provides it. Installs nothing."""
    with plain_errors():
        from rosetta import diagnosis

        found = diagnosis.examine(Plan.of(settings(overrides), [frameworks.ALL]))
        if as_json:
            print(json.dumps(found, indent=1))
        else:
            diagnosis.show(found, out)


@app.command(epilog="Example: `rosetta prepare cnn -c data=synthetic`")
def prepare(
    tasks: Annotated[list[str] | None, typer.Argument(help="cnn, rnn, resnet50; default: all")] = None,
    overrides: Overrides = None,
):
    """Prepares the shared data: arrays, initial weights, golden values."""
    with plain_errors():
        from rosetta import measuring

        plan = Plan.of(settings(overrides))
        for name in tasks or TASKS:
            if name not in TASKS:
                raise Typo(f"there is no task {name!r}; choose from {', '.join(TASKS)}")
            statement = measuring.ensure_data(plan, TASKS[name], say)["statement"]
            out.print(f"{name}: {statement}", markup=False)


@app.command(epilog="Example: `rosetta setup julia r`")
def setup(
    names: Annotated[
        list[str] | None, typer.Argument(help="environments; default: those of the legs in config/config.yaml")
    ] = None,
    overrides: Overrides = None,
):
    """Makes the environments that legs run in, and tries again what could not be had."""
    with plain_errors():
        from rosetta import measuring

        chosen = settings(overrides)
        plan = Plan.of(chosen, [frameworks.ALL])
        check_names(names or [], plan.environments(), "environment")
        worst = 0
        for name in names or Plan.of(chosen).environments():
            found = measuring.provide(plan, name, say)
            out.print(f"{name}: {found['status']}{': ' + found['reason'] if found['reason'] else ''}", markup=False)
            worst = max(worst, 0 if found["status"] == "ready" else 3)
        raise typer.Exit(worst)


@app.command(epilog="Example: `rosetta new minigrad --task rnn --environment more`")
def new(
    framework: Annotated[str, typer.Argument(help="its name, in lower case")],
    task: Annotated[str, typer.Option(help="cnn or rnn")] = "cnn",
    environment: Annotated[str, typer.Option(help="the set of packages it runs in")] = "numpy",
):
    """Starts a Python framework: a folder with a leg in which four functions are to be filled in."""
    with plain_errors():
        from rosetta import scaffold

        for path in scaffold.create(framework, task, environment):
            out.print(str(path.relative_to(config.ROOT)), markup=False)
        out.print(
            f"Fill in the four functions, then: rosetta verify python/{framework}/{task} -c work.{task}.batch=8",
            markup=False,
        )


@app.command(epilog="Example: `rosetta run 'julia/*' r/base/rnn -c profile=smoke -c rounds=1`")
def run(legs: Annotated[list[str], typer.Argument(help="legs or patterns")], overrides: Overrides = None):
    """Proves and times legs, and writes their records. The report comes from `rosetta report`."""
    with plain_errors():
        from rosetta import measuring

        plan = Plan.of(settings(overrides), legs, apart=True)
        prepare_all(plan)
        for leg in plan.legs:
            finish(measuring.prove(plan, leg, say))
        for leg, number in plan.runs():
            out.print(f"{leg.name}, round {number} of {plan.settings.rounds}", markup=False)
            finish(measuring.measure(plan, leg, number, say, live))
        raise typer.Exit(show([measuring.gather(plan, leg) for leg in plan.legs]))


@app.command(epilog="Example: `rosetta verify python/pytorch`")
def verify(
    legs: Annotated[
        list[str] | None, typer.Argument(help="legs or patterns; default: all of the configuration")
    ] = None,
    overrides: Overrides = None,
):
    """The proof alone: does each leg compute the same network as the float64 reference?"""
    with plain_errors():
        from rosetta import measuring

        plan = Plan.of(settings(overrides), legs, apart=True)
        prepare_all(plan)
        results = []
        for leg in plan.legs:
            record = measuring.prove(plan, leg, say)
            results.append(record)
            proof_line(record)
        raise typer.Exit(code(results))


@app.command(epilog="Example: `rosetta bench --legs 'python/pytorch julia' -c profile=smoke`")
def bench(
    targets: Annotated[
        list[str] | None, typer.Argument(help="files or rules of the Snakefile; default: the report")
    ] = None,
    legs: Annotated[str, typer.Option("--legs", "-l", help="legs or patterns; default: all of the configuration")] = "",
    overrides: Overrides = None,
):
    """Runs the pipeline, as `make report` does, and says how far it is. Goes on where an earlier run stopped."""
    with plain_errors():
        from rosetta import bench as pipeline

        options = [*(overrides or []), *([f"legs={','.join(legs.replace(',', ' ').split())}"] if legs else [])]
        plan = Plan.of(settings(options))
        raise typer.Exit(pipeline.run(plan, options, targets or [], out))


@app.command(epilog="Example: `rosetta report --open`")
def report(
    show_it: Annotated[bool, typer.Option("--open", help="Opens the page in a browser.")] = False,
    overrides: Overrides = None,
):
    """Makes the report from the records that are there and still hold, and says which are missing."""
    with plain_errors():
        from rosetta import records
        from rosetta import report as pages
        from rosetta.report import kept

        plan = Plan.of(settings(overrides), apart=True)
        given = [word for word in plan.settings.overrides if word.partition("=")[0] != "legs"]
        options = "".join(f" -c {shlex.quote(word)}" for word in given)
        configured = kept.holding(plan, plan.legs)
        for leg in plan.legs:
            if not plan.record(leg).exists():
                err.print(
                    f"rosetta: no record of {leg.name}; `rosetta run {leg.name}{options}` makes one", markup=False
                )
            elif leg.name not in {record["leg"] for record in configured}:
                records.read(plan.record(leg))  # one that cannot be read is an error, which says what to do
                old = f"the record of {leg.name} is from other settings or older code, data or packages"
                err.print(f"rosetta: {old}; `rosetta run {leg.name}{options}` makes it again", markup=False)
        every = kept.everything(plan)
        shown = configured + kept.further(plan, every)
        written = pages.write(shown, REPORTS, left_out=kept.left_out(every, shown), settings=plan.settings.overrides)
        for path in written:
            out.print(str(path), markup=False)
        if show_it:
            webbrowser.open((REPORTS / "summary.html").resolve().as_uri())


@app.command(epilog="Example: `rosetta stone --open`")
def stone(show_it: Annotated[bool, typer.Option("--open", help="Opens the page in a browser.")] = False):
    """Makes the page that lays any two legs of a task side by side. It needs no measurements."""
    with plain_errors():
        from rosetta.report import write_stone

        path = write_stone(REPORTS)
        out.print(str(path), markup=False)
        if show_it:
            webbrowser.open(path.resolve().as_uri())


@app.command(epilog="Example: `rosetta clean reports data`")
def clean(
    names: Annotated[list[str] | None, typer.Argument(help="reports, environments, data, archives")] = None,
):
    """Removes what was made here: each thing by its name. Without a name it only lists what there is."""
    with plain_errors():
        from rosetta import bench, cleaning
        from rosetta.announcement import size

        things = cleaning.things()
        check_names(names or [], list(things), "thing to clean called")
        used = any(things[name].of_a_run for name in names or [])
        try:
            with bench.working_alone(out, wait=False) if used else nullcontext():
                for name in names or things:
                    thing = things[name]
                    space = cleaning.space(thing.paths)
                    freed, places = size(space.freed / MEGABYTE), ", ".join(map(str, thing.places))
                    if names:
                        cleaning.remove(thing)
                        out.print(f"{name}: removed {thing.what}; {freed} freed. {thing.then}.", markup=False)
                    else:
                        text = (
                            f"{name}: {freed} in {places}. `rosetta clean {name}` removes {thing.what}. {thing.then}."
                        )
                        out.print(text, markup=False)
                    if space.shared > MEGABYTE:
                        more = f"{size(space.shared / MEGABYTE)} more are in uv's cache as well"
                        out.print(f"    {more}: `uv cache clean` frees them", markup=False)
        except bench.AnotherRun:
            raise Occupied(f"{', '.join(names)}: a run works here; end it first") from None


def check_names(names: list[str], known: list[str], kind: str) -> None:
    """Typo for the first name that is not known, with the one that was probably meant."""
    for name in names:
        if name not in known:
            near = config.guess(name, known)
            meant = f"; did you mean {near}?" if near else "."
            raise Typo(f"there is no {kind} {name!r}{meant} There are: {', '.join(known)}")


def uncut(header: str, cells: list[str], narrow: bool = False) -> Column:
    """A table's column in which no word is cut. Where the terminal is narrow, it is as wide as its longest word, and wraps at blanks."""
    longest = max(map(len, " ".join([header, *cells]).split()))
    return Column(header, width=longest if narrow else None, min_width=longest)


def say(text: str) -> None:
    err.print(text, markup=False)


def live(event: dict) -> None:
    """A line for each phase, as it ends; the mean loss of each epoch."""
    if event["event"] == "phase":
        loss = f", loss {sum(event['losses']) / len(event['losses']):.4f}" if event.get("losses") else ""
        accuracy = f", accuracy {event['accuracy']:.3f}" if "accuracy" in event else ""
        out.print(f"  {event['phase'].replace('_', ' ')}: {event['seconds']:.3f} s{loss}{accuracy}", markup=False)


def finish(record: dict) -> None:
    if record["status"] != "ok":
        out.print(f"  {record['leg']}: {record['status']}: {record['reason']}", markup=False)


def prepare_all(plan: Plan) -> None:
    from rosetta import measuring

    for task in {leg.task.name: leg.task for leg in plan.legs if not plan.idle(leg)}.values():
        measuring.ensure_data(plan, task, say)
    for name in plan.environments():
        measuring.provide(plan, name, say)


def proof_line(record: dict) -> None:
    from rosetta.report.words import difference

    worst = {}
    for d in record["differences"]:
        size = float("inf") if d["difference"] is None else d["difference"]
        worst[d["precision"]] = max(worst.get(d["precision"], 0.0), size)
    differences = ", ".join(f"{precision} {size:.1e}" for precision, size in worst.items())
    style = MARKS.get(record["status"], "red")
    out.print(f"[{style}]{record['status']:<11}[/] {record['leg']:<32} {differences} {escape(record['reason'])}")
    if record["as_shipped"]:
        drifts = record["as_shipped"]
        at = ", ".join(
            difference(drift["difference"]) + f" at step {drift['step']}" * bool(drift["step"]) for drift in drifts
        )
        out.print(f"{'as shipped':<11} {drifts[0]['quantity']} drift by {at}: {escape(record['as_shipped_why'])}")


def show(legs: list[dict]) -> int:
    from rosetta import records
    from rosetta.report import results, shortened
    from rosetta.report.words import percent

    names = [leg["leg"] for leg in legs]
    used = [percent(results.utilisation(leg)) for leg in legs]
    columns = ["status", "median epoch, s", *["utilisation"] * any(used), "accuracy", "reason"]
    table = Table(uncut("leg", names), *columns, box=None)
    for leg, share in zip(legs, used):
        phases = [phase for record in leg["rounds"] if record["status"] == "ok" for phase in record["phases"]]
        epochs = [seconds for record in records.good_rounds(leg) for seconds in records.planned_seconds(record)]
        accuracy = [phase["accuracy"] for phase in phases if "accuracy" in phase and not shortened.why(leg)]
        sign = shortened.SIGN if shortened.training(leg) else ""
        median = f"{statistics.median(epochs):.3f}{sign}" if epochs else ""
        style = MARKS.get(leg["status"], "red")
        table.add_row(
            leg["leg"],
            f"[{style}]{leg['status']}[/]",
            median,
            *[share] * any(used),
            f"{accuracy[0]:.3f}" if accuracy else "",
            escape(leg["reason"]),
        )
    out.print(table)
    if sentence := shortened.summary(legs):
        out.print(sentence, markup=False)
    return code(legs)


def code(results: list[dict]) -> int:
    statuses = {record["status"] for record in results}
    if statuses <= PROVEN:
        return 0
    return 3 if statuses <= PROVEN | EXCUSED else 1


# The pipeline's steps. They read the settings from ROSETTA_CONFIG and always write their output, whatever the leg did.


@step.command("arrays")
def step_arrays(task: str, generation: int):
    with plain_errors():
        from rosetta import prepare as shared
        from rosetta.data import Bars

        with events.step("data", task):
            shared.arrays(Plan.of(settings(None)), TASKS[task], Bars(), generation)


@step.command("weights")
def step_weights(task: str):
    with plain_errors():
        from rosetta import prepare as shared

        with events.step("weights", task):
            shared.weights(Plan.of(settings(None)), TASKS[task])


@step.command("golden")
def step_golden(task: str, path: Path):
    with plain_errors():
        import threadpoolctl

        from rosetta import prepare as shared

        plan = Plan.of(settings(None))
        goldens = plan.goldens(TASKS[task])
        number = [golden.path for golden in goldens].index(path)
        # The other core is for another step of the set-up.
        threads = threadpoolctl.threadpool_limits(max(1, config.usable_cores() // 2))
        with events.step("golden", task, number), threads:
            shared.golden(plan, TASKS[task], goldens[number])


@step.command("environment")
def step_environment(name: str, generation: int):
    with plain_errors():
        from rosetta import measuring

        with events.step("environment", name) as outcome:
            found = measuring.provide(Plan.of(settings(None)), name, say, generation)
            outcome.update(status="ok" if found["status"] == "ready" else found["status"], reason=found["reason"])
        if found["reason"]:
            say(f"{name}: {found['status']}: {found['reason']}")


@step.command("proof")
def step_proof(leg: str, attempt: Annotated[int | None, typer.Argument()] = None):
    with plain_errors():
        from rosetta import measuring

        plan = Plan.of(settings(None), [leg])
        with events.step("proof", leg) as outcome:
            record = measuring.prove(plan, plan.legs[0], say, attempt=attempt)
            outcome.update(status=record["status"], reason=record["reason"])
        proof_line(record)


@step.command("round")
def step_round(leg: str, number: int, attempt: Annotated[int | None, typer.Argument()] = None):
    with plain_errors():
        from rosetta import measuring

        plan = Plan.of(settings(None), [leg])
        with events.step("round", leg, number) as outcome:
            record = measuring.measure(plan, plan.legs[0], number, say, live, attempt)
            outcome.update(status=record["status"], reason=record["reason"])
        finish(record)


@step.command("gather")
def step_gather(leg: str):
    with plain_errors():
        from rosetta import measuring

        plan = Plan.of(settings(None), [leg])
        measuring.gather(plan, plan.legs[0])


@step.command("report")
def step_report(folder: Path, paths: Annotated[list[Path] | None, typer.Argument()] = None):
    """`paths`: the records of the configured legs. Others that still hold are shown too; in a language's folder those of the language."""
    with plain_errors():
        from rosetta import records
        from rosetta import report as pages
        from rosetta.bench import page_lock
        from rosetta.report import kept

        # The event that the last page starts is sent before the lock is taken.
        # A running page is written under the same lock, so it has seen that event and does not replace the last page.
        with events.step("report", str(folder)), page_lock():
            plan = Plan.of(settings(None))
            every = kept.everything(plan, folder.name if folder.name in frameworks.LANGUAGES else "")
            shown = [records.read(path) for path in paths or []] + kept.further(plan, every)
            pages.write(shown, folder, left_out=kept.left_out(every, shown), settings=plan.settings.overrides)


if __name__ == "__main__":
    app()
