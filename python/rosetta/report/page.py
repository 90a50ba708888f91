"""The page: puts results, comparisons, proofs and charts into the templates and writes the files."""

import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from .. import __version__, environments, frameworks, records
from ..config import ROOT
from ..frameworks import LANGUAGES, Leg
from . import charts, comparisons, facts, proofs, published, results, shortened, stone, words
from .progress import NOTHING_RUNS, Progress, sign

FILTERS = (
    words.seconds,
    words.interval,
    words.ratio,
    words.whole,
    words.rate,
    words.percent,
    words.difference,
    words.listed,
    words.short,
    words.markdown,
    words.task_title,
    words.capfirst,
)


def write(
    legs: list[dict],
    folder: Path,
    left_out: Sequence[Leg] = (),
    settings: Sequence[str] = (),
) -> list[Path]:
    """See `rosetta.report.write`."""
    if not legs:
        raise records.RecordError(
            "no leg record to report on; run a leg first, for example: rosetta run python/numpy/cnn"
        )
    legs = in_order(legs)
    table = results.table(legs)
    view = view_of(legs, table, folder, NOTHING_RUNS, left_out, settings)
    texts = {"results.csv": table.to_csv(index=False), "results.json": in_json(legs, table, view)}
    texts |= {name: render(f"{name}.j2", view) for name in ("summary.md", "summary.html")}
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / "results.parquet", table)
    for name, text in texts.items():
        records.write_text(folder / name, text)
    return [folder / name for name in ("results.parquet", *texts)]


def write_running(
    progress: Progress,
    legs: list[dict],
    folder: Path,
    left_out: Sequence[Leg] = (),
    settings: Sequence[str] = (),
) -> Path:
    """See `rosetta.report.write_running`."""
    legs = in_order(legs)
    text = render("summary.html.j2", view_of(legs, results.table(legs), folder, progress, left_out, settings))
    path = folder / "summary.html"
    with records.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        os.utime(temporary, (1, 1))  # Snakemake takes a time of 0 for none at all, and the page for a finished one
    return path


def in_order(legs: list[dict]) -> list[dict]:
    """The legs in reading order; RecordError where one comes twice in the same setting."""
    legs = sorted(legs, key=results.order_of)
    names = [words.slug(*anchor(leg)) for leg in legs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise records.RecordError(f"{twice}: two records of the same leg and setting; keep one of the files")
    return legs


def view_of(
    legs: list[dict],
    table: pd.DataFrame,
    folder: Path,
    progress: Progress,
    left_out: Sequence[Leg],
    settings: Sequence[str],
) -> dict:
    """Everything that the templates of a report in `folder` show."""
    language = folder.name if folder.name in LANGUAGES else ""
    page = f"reports/{language}/summary.html" if language else "reports/summary.html"
    return context(legs, table, progress) | {
        "stone_body": stone_body(stone_date()),
        "stone_page": stone_link(folder),
        "log_link": lambda run: log_link(run, folder),
        "reproduction": facts.reproduction(legs, page),
        "left_out": facts.left_out_words(left_out, settings, language),
    }


def write_stone(folder: Path) -> Path:
    """See `rosetta.report.write_stone`."""
    path = folder / "rosetta.html"
    view = {"version": __version__, "stone": stone.context(), "headings": ("h2", "h3", "h4")}
    records.write_text(path, render("stone.html.j2", view))
    return path


def stone_date() -> float:
    """When the newest file was changed that the stone is made of."""
    from . import stone_sources

    return max(path.stat().st_mtime for path in stone_sources())


@functools.lru_cache(maxsize=1)
def stone_body(changed: float) -> Markup:
    """The stone as a section of the report, made once for files that did not change: `changed` is their date."""
    return Markup(render("stone_body.html.j2", {"stone": stone.context(), "headings": ("h3", "h4", "h5")}))


def stone_link(folder: Path) -> str:
    """From a summary to the stone, of which there is one: a language's report stands a folder below it."""
    return "../rosetta.html" if folder.name in LANGUAGES else "rosetta.html"


def log_link(run: dict, folder: Path) -> str:
    """From a summary to the log of a run: both lie in the folder of reports, wherever that is moved to."""
    return quote(os.path.relpath(run["log"], folder))


def in_json(legs: list[dict], table: pd.DataFrame, view: dict) -> str:
    """The rows of results.csv with what a row has no room for, and the tables of the page that have no row a leg."""
    rows = table.to_dict("records")
    for row, leg in zip(rows, legs):
        row["epochs_seconds"] = results.epoch_seconds(leg)
        row["calls"] = [results.raw_calls(run) for run in records.good_rounds(leg)]
        row["loss_curve"] = dict(zip(("epochs", "losses"), charts.loss_curve(leg) or ([], [])))
        row["differences"] = leg["proof"]["differences"]
        row["as_shipped"] = leg["proof"].get("as_shipped", [])
    report = {
        "report": 1,
        "version": __version__,
        "legs": rows,
        "best_of_languages": [
            setting(row.leg)
            | {"seconds_median": row.result["seconds_median"], "times": row.times, "low": row.low, "high": row.high}
            for _, best in view["best"]
            for row in best
        ],
        "made_of": [
            setting(it.row.leg)
            | {"start_seconds": it.start, "compilation_seconds": it.compilation, "step_seconds": it.step}
            | {"overhead_seconds": it.overhead, "kernels": it.kernels}
            for _, several in view["made_of"]
            for it in several
        ],
        "without_frameworks": [
            setting(language.row.leg)
            | {"times": language.times, "low": language.low, "high": language.high, "excluded": language.excluded}
            for item in view["languages"]
            for language in item["pair"].languages
        ],
        "same_library": [
            setting(pair.other.leg)
            | {"python": pair.python.leg["leg"], "times": pair.times, "low": pair.low, "high": pair.high}
            | {"step_seconds": pair.step_ms / 1000, "loss_difference": pair.loss_difference}
            for pair in view["callings"]
        ],
        "published": [published.in_json(line) for line in view["then"]],
    }
    return json.dumps(plain(report), indent=1) + "\n"


def setting(leg: dict) -> dict:
    return dict(zip(("leg", "profile", "device", "precision"), anchor(leg)))


def plain(value):
    """The same for JSON, which has no NaN: null."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Replaces the file in one step."""
    with records.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def render(template: str, view: dict) -> str:
    """A template filled in."""
    return templates().get_template(template).render(view)


@functools.cache
def templates() -> jinja2.Environment:
    """HTML is escaped by itself; the Markdown template escapes through its filter."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update({function.__name__: function for function in FILTERS})
    environment.globals.update(results=results, words=words, published=published, shortened=shortened, state_sign=sign)
    return environment


def name_of(leg: dict) -> str:
    """Of a leg's chart."""
    return "course-" + words.slug(*anchor(leg))


def anchor(leg: dict) -> tuple:
    return leg["leg"], leg["profile"], leg["device"], leg["precision"]


def context(legs: list[dict], table: pd.DataFrame, progress: Progress) -> dict:
    """What the templates show of the legs."""
    rows = table.to_dict("records")
    timed = [(leg, row) for leg, row in zip(legs, rows) if leg["rounds"]]
    found = comparisons.comparisons([leg for leg, _ in timed], [row for _, row in timed])
    proved = proofs.proofs(legs)
    details = list(zip(legs, rows))
    then = [line for task in dict.fromkeys(leg["task"] for leg in legs) for line in published.lines(task, details)]
    best = [(comparison, several) for comparison in found if (several := comparisons.best_of_languages(comparison))]
    best_legs = [row.leg for _, several in best for row in several]
    first = {comparison.task: comparison for comparison in reversed(found)}
    views = [
        comparison_view(comparison, number)
        | {"then": published.columns(comparison, then, with_others=comparison is first[comparison.task])}
        for number, comparison in enumerate(found, 1)
    ]
    return {
        "version": __version__,
        "statuses": records.STATUSES,
        "used": {leg["status"] for leg in legs} | {progress.state(name) for name in progress.states},
        "facts": facts.gather(legs),
        "banners": facts.banners(legs, running=bool(progress.line)),
        "progress": progress,
        "marks": facts.marks(legs),
        "marks_of": facts.marks,
        "grid": grid(legs, rows, progress),
        "comparisons": views,
        "tasks": {
            name: [view for view in views if view["it"].task == name]
            for name in dict.fromkeys(leg["task"] for leg, _ in timed)
        },
        "languages": [
            {
                "pair": pair,
                "chart": charts.languages(pair, f"languages{number}"),
                "marks": facts.marks([language.row.leg for language in pair.languages]),
                "calculated": shortened.summary([language.row.leg for language in pair.shown]),
            }
            for number, pair in enumerate(comparisons.language_comparisons(found), 1)
        ],
        "old_julia": facts.old_julia(legs),
        "callings": comparisons.callings(found),
        "made_of": comparisons.made_of(found),
        "best": best,
        "best_legs": best_legs,
        "best_ceilings": results.ceilings(best_legs),
        "proofs": [
            (leg, [proof for proof in proved if proof.leg is leg])
            for leg in legs
            if any(proof.leg is leg for proof in proved)
        ],
        "families": proofs.families(proved),
        "shipped": proofs.shipped(legs),
        "quantities": proofs.quantities,
        "proof_settings": proofs.by_setting,
        "planned_steps": records.planned_steps,
        "shown": legs,
        "sign": lambda leg: words.markdown(shortened.SIGN) if shortened.training(leg) else "",
        "missing": [
            (leg, row) for leg, row in details if not results.is_ranked(leg) and not progress.unfinished(leg["leg"])
        ],
        "ended": ended(legs, progress),
        "warned": warned(legs),
        "then": then,
        # The next round waits while a page of a run is made, so that one has no chart for each leg.
        "details": [(leg, row, None if progress.line else charts.course(leg, name_of(leg))) for leg, row in details],
        "frameworks": {(leg.framework.language, leg.framework.name): leg.framework for leg in frameworks.discover()},
        "locks": locks(),
        "beside": lambda leg: stone.beside(f"{leg['language']}/{leg['framework']}", leg["task"]),
        "anchor": lambda leg: "leg-" + words.slug(*anchor(leg)),
    }


@dataclass
class Cell:
    """A leg in the overview: with its record and its row of results.csv where there are any, and its state during a run."""

    leg: dict
    row: dict | None
    state: str
    reason: str


def without_record(legs: list[dict], progress: Progress) -> list[dict]:
    """The legs of a run that left no record yet, as far as their names tell."""
    names = sorted(progress.states.keys() - {leg["leg"] for leg in legs})
    parts = [dict(zip(("language", "framework", "task"), name.split("/"))) | {"leg": name} for name in names]
    return [part | {"profile": "", "device": "", "precision": ""} for part in parts]


def ended(legs: list[dict], progress: Progress) -> list[tuple[str, str, str]]:
    """(leg, status, reason) of those that ended without a record of their own."""
    names = [leg["leg"] for leg in sorted(without_record(legs, progress), key=results.order_of)]
    return [
        (name, progress.state(name), progress.reason(name))
        for name in names
        if not progress.unfinished(name) and progress.state(name) != "timed"
    ]


def grid(legs: list[dict], rows: list[dict], progress: Progress) -> dict:
    """The cells of framework by task: {language: {framework: {task: [Cell]}}}, several in a cell where settings differ."""
    languages = {}
    pairs = [*zip(legs, rows), *((leg, None) for leg in without_record(legs, progress))]
    titles = {(leg.framework.language, leg.framework.name): leg.framework.title for leg in frameworks.discover()}
    for leg, row in sorted(pairs, key=lambda pair: results.order_of(pair[0])[2:]):
        cells = languages.setdefault(leg["language"], {}).setdefault(leg["framework"], {})
        cell = Cell(leg, row, progress.state(leg["leg"]), progress.reason(leg["leg"]))
        cells.setdefault(leg["task"], []).append(cell)
    tasks = list(dict.fromkeys(leg["task"] for leg, _ in sorted(pairs, key=lambda pair: results.order_of(pair[0]))))
    timed = [row for row in rows if not words.missing(row["seconds_median"])]
    return {
        "tasks": tasks,
        # Seconds of different jobs stand in one column: each says what it is for.
        "unequal": {task for task in tasks if len({words.job(task, row) for row in timed if row["task"] == task}) > 1},
        "languages": languages,
        "titles": titles | {(leg["language"], leg["framework"]): leg["title"] for leg in legs},
        "several": len({(leg["profile"], leg["device"], leg["precision"]) for leg in legs}) > 1,
    }


def locks() -> dict[str, str]:
    """{sha256: file} of every lock of this checkout. One that a record names and that is not here has changed since."""
    paths = sorted(environments.REQUIREMENTS.glob("*.lock"))
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.relative_to(ROOT).as_posix() for path in paths}


def warned(legs: list[dict]) -> dict[str, list[dict]]:
    """Each warning with the legs that have it."""
    found = {}
    for leg in legs:
        for warning in leg["warnings"]:
            found.setdefault(warning, []).append(leg)
    return found


def comparison_view(comparison: comparisons.Comparison, number: int) -> dict:
    """A comparison with its charts, and what its table has no column for."""
    rows = [row.result for row in comparison.rows]
    optional = ("accuracy", "peak_memory_mb", "first_step_seconds", "utilisation")
    return {
        "it": comparison,
        "full": results.is_full(comparison.work),
        "marks": facts.marks([row.leg for row in comparison.rows]),
        "ceilings": results.ceilings([row.leg for row in comparison.rows]),
        "slowest": max((row.times for row in comparison.ranked), default=1),
        "empty": [name for name in optional if all(words.missing(row[name]) for row in rows)],
        "unranked_time": any(not words.missing(row.result["seconds_median"]) for row in comparison.others),
        "short": [row for row in comparison.ranked if row.result["rounds_ok"] < row.result["rounds"]],
        "calculated": shortened.sentence([row.leg for row in comparison.rows]),
        "cut": any(row["shortened"] for row in rows),
        "single": any(row.result["rounds_ok"] == 1 for row in comparison.ranked),
        "samples": charts.samples(comparison.rows, comparison.task, f"samples{number}"),
        "losses": charts.losses(comparison.rows, comparison.task, f"losses{number}"),
        "dropout": comparison.task == "cnn",
    }
