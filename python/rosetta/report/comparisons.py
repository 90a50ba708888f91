"""Which legs may be compared with which, and how they compare: ranked tables, and language against language."""

from collections import defaultdict
from dataclasses import dataclass, field

from .. import records
from . import results, statistics, words
from .facts import machine_words

BASE = {"python": "numpy", "julia": "base", "r": "base"}
"""The frameworks of the same algorithm without a framework: their comparison is one of languages."""

SAME_LIBRARY = {"r/keras": "python/keras-tensorflow", "r/mxnet": "python/mxnet-gluon"}
"""Legs that call the same kernels from another language: what differs between them is the calling."""


@dataclass
class Row:
    """A leg in a table. `times` is its seconds by those of the fastest, `low` to `high` the interval of that; `alike`: it includes 1."""

    leg: dict
    result: dict
    times: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    alike: bool = False


@dataclass
class Comparison:
    """Legs that did the same job on the same data, machine, device and threads; `others` have no place among them."""

    task: str
    leg: dict
    ranked: list[Row]
    others: list[Row] = field(default_factory=list)

    @property
    def work(self) -> dict:
        return results.typical_run(self.leg)["work"]

    @property
    def rows(self) -> list[Row]:
        return self.ranked + self.others

    @property
    def statement(self) -> str:
        """What the data was, as the first leg that had any says."""
        runs = (results.typical_run(row.leg) for row in self.rows)
        return next((run["data"]["statement"] for run in runs if results.has_data(run)), "")


def setting(leg: dict) -> tuple:
    return leg["task"], leg["profile"], leg["device"], leg["precision"]


def job(leg: dict) -> tuple:
    """What two legs must have in common before one may be called faster."""
    run = results.typical_run(leg)
    work, machine = tuple(sorted(run["work"].items())), machine_words(run["machine"])
    return setting(leg) + (work, run["data"]["sha256"], machine, run["threads"])


def comparisons(legs: list[dict], rows: list[dict]) -> list[Comparison]:
    """One comparison for each job that was done; legs without a rank join the largest of their task and setting."""
    jobs, rest = defaultdict(list), defaultdict(list)
    for leg, result in zip(legs, rows):
        if results.is_ranked(leg):
            jobs[job(leg)].append(Row(leg, result))
        else:
            rest[setting(leg)].append(Row(leg, result))
    found = [Comparison(key[0], group[0].leg, rank(group)) for key, group in jobs.items()]
    for key, group in rest.items():
        same = [comparison for comparison in found if setting(comparison.leg) == key]
        if same:
            max(same, key=lambda comparison: len(comparison.ranked)).others = group
        else:
            found.append(Comparison(key[0], group[0].leg, [], group))
    return sorted(found, key=lambda comparison: results.order_of(comparison.leg)[:2])


def rank(group: list[Row]) -> list[Row]:
    group = sorted(group, key=lambda row: row.result["seconds_median"])
    fastest = group[0]
    reference = results.epoch_seconds(fastest.leg)
    for row in group:
        row.times = row.result["seconds_median"] / fastest.result["seconds_median"]
        if row is not fastest:
            row.low, row.high = statistics.ratio_interval(results.epoch_seconds(row.leg), reference)
        row.alike = row.low <= 1 <= row.high
    return group


@dataclass
class Language:
    """One language's leg of the base comparison, its seconds by Python's, and the words that belong beside the number."""

    row: Row
    name: str
    version: str
    times: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    excluded: str = ""


@dataclass
class LanguageComparison:
    comparison: Comparison
    languages: list[Language]

    @property
    def shown(self) -> list[Language]:
        return [language for language in self.languages if not language.excluded]

    @property
    def sentence(self) -> str:
        return sentence(self)


def language_comparisons(found: list[Comparison]) -> list[LanguageComparison]:
    """Python, Julia and R on the same algorithm, for each comparison that has at least two of them."""
    answer = []
    for comparison in found:
        base = [row for row in comparison.rows if BASE.get(row.leg["language"]) == row.leg["framework"]]
        base.sort(key=lambda row: list(BASE).index(row.leg["language"]))
        languages = [language_of(row, comparison) for row in base]
        if len([language for language in languages if not language.excluded]) > 0 and len(languages) > 1:
            relate(languages)
            answer.append(LanguageComparison(comparison, languages))
    return answer


def language_of(row: Row, comparison: Comparison) -> Language:
    name = results.LANGUAGES[row.leg["language"]]
    versions = results.typical_run(row.leg)["versions"]
    version = ", ".join(f"{key} {value}" for key, value in versions.items())
    excluded = "" if row in comparison.ranked else row.leg["status"]
    return Language(row, name, version, excluded=excluded)


def relate(languages: list[Language]) -> None:
    """Fills in the ratios to Python, where Python has a place in the comparison."""
    shown = [language for language in languages if not language.excluded]
    python = next((language for language in shown if language.row.leg["language"] == "python"), None)
    if python is None:
        return
    reference = results.epoch_seconds(python.row.leg)
    for language in shown:
        language.times = language.row.result["seconds_median"] / python.row.result["seconds_median"]
        if language is not python:
            samples = results.epoch_seconds(language.row.leg)
            language.low, language.high = statistics.ratio_interval(samples, reference)


def sentence(pair: LanguageComparison) -> str:
    """The comparison in words, with what excuses or damns a number."""
    shown = pair.shown
    python = next((language for language in shown if language.row.leg["language"] == "python"), None)
    if python is None:
        text = "Without a Python result there is nothing to relate the others to."
    elif len(shown) == 1:
        text = "Only Python has a result here."
    else:
        text = "; ".join(clause(language) for language in shown if language is not python) + "."
    for language in pair.languages:
        if language.excluded:
            reason = language.row.leg["reason"] or "no reason recorded"
            text += f" {language.name} has no place here: {language.excluded} ({reason})."
    return text


def clause(language: Language) -> str:
    times = f"{language.name} took {words.ratio(language.times)} times as long as Python"
    if words.missing(language.low):
        text = f"{times} (too few samples for an interval)"
    else:
        text = f"{times} (95 % interval {words.ratio(language.low)} to {words.ratio(language.high)}"
        text += ", so neither is shown to be faster)" if language.low <= 1 <= language.high else ")"
    computes, asked = language.row.result["computes"], language.row.leg["precision"]
    return f"{text}, computing in {computes} where {asked} was asked for" if computes and computes != asked else text


@dataclass
class Calling:
    """One library called from two languages: `times` is the other's seconds by Python's, `step_ms` how much longer a step takes.

    Attributes:
        loss_difference: the largest relative difference of the losses that both recorded, in the same order of samples and with the same
            dropout masks; None where a loss of either is no finite number, NaN where one recorded none.
    """

    other: Row
    python: Row
    times: float
    low: float
    high: float
    step_ms: float
    loss_difference: float | None


def callings(found: list[Comparison]) -> list[Calling]:
    """The pairs of SAME_LIBRARY that did the same job and are ranked."""
    answer = []
    for comparison in found:
        rows = {f"{row.leg['language']}/{row.leg['framework']}": row for row in comparison.ranked}
        for name, partner in SAME_LIBRARY.items():
            if name in rows and partner in rows:
                answer.append(calling(rows[name], rows[partner]))
    return answer


def calling(other: Row, python: Row) -> Calling:
    epochs = [results.epoch_seconds(row.leg) for row in (other, python)]
    low, high = statistics.ratio_interval(*epochs)
    medians = [statistics.median(groups) for groups in epochs]
    work = results.typical_run(other.leg)["work"]
    times, step_ms = medians[0] / medians[1], 1000 * (medians[0] - medians[1]) / records.planned_steps(work)
    return Calling(other, python, times, low, high, step_ms, loss_difference(other.leg, python.leg))


@dataclass
class Parts:
    """What a leg's time is made of, in seconds but for the last.

    Attributes:
        start: import, build and data: before the first step.
        compilation: what the first step takes longer than a later one.
        step: one batch, by the median epoch.
        overhead: what a step takes beyond its arithmetic at the speed of a matrix product on this device: calls, copies, and kernels
            that are slower than that. NaN where the ceiling is unknown.
        kernels: the share of a step that is not overhead.
    """

    row: Row
    start: float
    compilation: float
    step: float
    overhead: float
    kernels: float


def parts(row: Row) -> Parts:
    result = row.result
    start = sum(result[f"{phase}_seconds"] for phase in ("import", "build", "data"))
    step = results.typical_run(row.leg)["work"]["batch"] / result["samples_per_second"]
    kernels = result["utilisation"]
    return Parts(row, start, max(0.0, result["first_step_seconds"] - step), step, step * max(1 - kernels, 0), kernels)


def made_of(found: list[Comparison]) -> list[tuple[Comparison, list[Parts]]]:
    """The parts of what stands in several languages: the legs without a framework, and the libraries that two languages call."""
    answer = []
    for comparison in found:
        rows = {f"{row.leg['language']}/{row.leg['framework']}": row for row in comparison.ranked}
        groups = [[f"{language}/{base}" for language, base in BASE.items()], *map(reversed, SAME_LIBRARY.items())]
        shown = [[rows[name] for name in group if name in rows] for group in groups]
        if several := [parts(row) for group in shown if len(group) > 1 for row in group]:
            answer.append((comparison, several))
    return answer


def loss_difference(one: dict, other: dict) -> float | None:
    """Relative, over the steps that both legs' typical rounds did from the same weights; see `Calling`. The legs must draw the same
    dropout masks. After a call in which one did fewer steps than the other, their weights are no longer the same.
    """
    pairs = []
    calls = [[call.get("losses", []) for call in results.calls(results.typical_run(leg))] for leg in (one, other)]
    for mine, theirs in zip(*calls):
        pairs += zip(mine, theirs)
        if len(mine) != len(theirs):
            break
    if not pairs:
        return float("nan")
    if any(None in pair for pair in pairs):
        return None
    return max(abs(a - b) / (abs(b) or 1) for a, b in pairs)


def best_of_languages(comparison: Comparison) -> list[Row]:
    """The fastest ranked leg of each language, the fastest of all first; empty where only one language has any."""
    best = {}
    for row in comparison.ranked:
        best.setdefault(row.leg["language"], row)
    return list(best.values()) if len(best) > 1 else []
