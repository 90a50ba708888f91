"""Charts as inline SVG that take their colours and fonts from the page, so that they are legible in light and dark.

matplotlib draws with stand-in colours; each is replaced by a CSS variable of the page. Series differ in colour and in
dash or marker, never in colour alone.
"""

import functools
import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .. import records
from . import results, shortened, statistics, words

SERIES = tuple(f"#a0b0c{number}" for number in range(1, 8))
INK, MUTED, RULE = "#a0b0d1", "#a0b0d2", "#a0b0d3"
VARIABLES = {
    **{stand_in: f"var(--series-{number})" for number, stand_in in enumerate(SERIES, 1)},
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
}
LANGUAGE_SERIES = {"python": SERIES[0], "julia": SERIES[1], "r": SERIES[2]}
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 3)), (0, (2, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DRAWN = 300
"""Charts of one kind that are remembered."""
POINTS = 150
"""Points of a loss curve: more than a screen shows apart, less than a page groans under."""

STYLE = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
}
WIDTH = 5.0
"""Inches: at 72 points an inch and 9.5-point letters, still legible at 360 pixels."""


def drawn_once(draw: Callable) -> Callable:
    """A chart of the same records is drawn once in a process: a page that is made again during a run draws what is new."""
    drawn = {}

    @functools.wraps(draw)
    def remembered(*arguments):
        key = hashlib.sha256(json.dumps(arguments, default=vars).encode()).digest()
        if key not in drawn:
            if len(drawn) == DRAWN:
                drawn.pop(next(iter(drawn)))  # the oldest
            drawn[key] = draw(*arguments)
        return drawn[key]

    return remembered


@drawn_once
def languages(pair, name: str) -> Markup:
    """Bars of seconds with intervals and, beside each, the ratio to Python; one bar a language."""
    shown = pair.shown
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.75 + 0.42 * len(shown))
        top = max(upper(language.row.result) for language in shown)
        for position, language in enumerate(shown):
            result = language.row.result
            value, low, high = (result[f"seconds_{end}"] for end in ("median", "low", "high"))
            axes.barh(position, value, height=0.58, color=LANGUAGE_SERIES[language.row.leg["language"]])
            if not words.missing(low):
                axes.errorbar(
                    value, position, xerr=[[max(0, value - low)], [max(0, high - value)]], color=INK, capsize=3, lw=1.1
                )
            label = f"{words.seconds(value)}{shortened.SIGN * bool(shortened.training(language.row.leg))} s"
            if not words.missing(language.times):
                label += f", {words.ratio(language.times)} × Python" if language.row.leg["language"] != "python" else ""
            axes.annotate(
                label, (upper(result), position), xytext=(7, 0), textcoords="offset points", va="center", color=INK
            )
        axes.set_yticks(range(len(shown)), [language.name for language in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, top * 1.62)
        axes.set_xlabel(f"seconds for {words.job(pair.comparison.task, pair.comparison.work)}")
        plain(axes, "x")
        axes.spines["left"].set_visible(False)
        title = f"{words.task_title(pair.comparison.task)} without a framework: seconds by language"
        return svg(figure, name, title, pair.sentence)


@drawn_once
def losses(rows: list, task: str, name: str) -> Markup | None:
    """Training loss against epochs, the mean over rounds; None where no leg has losses."""
    curves = [(row, loss_curve(row.leg)) for row in rows]
    curves = [(row, *curve) for row, curve in curves if curve is not None]
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        columns = 2 if len(curves) > 1 else 1
        legend = -(-len(curves) // columns)
        figure, axes = canvas(2.5 + 0.2 * legend)
        for number, (row, x, y) in enumerate(curves):
            axes.plot(
                x,
                y,
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[(number + number // len(SERIES)) % len(DASHES)],
                linewidth=max(1.3, 3 - 0.6 * number),
                label=f"{row.leg['language']}/{row.leg['framework']}"
                + ("" if row.times == row.times else f" ({row.leg['status']})"),
            )
        axes.set_xlabel("epochs")
        axes.set_ylabel("training loss")
        axes.tick_params(axis="y", labelcolor=MUTED)
        axes.margins(x=0.02)
        plain(axes, "y")
        figure.legend(loc="outside lower center", ncols=columns, handlelength=3.4, labelcolor=INK)
        title = f"{words.task_title(task)}: training loss"
        ends = "; ".join(
            f"{row.leg['leg']} ends at {f'{y[-1]:.3g}' if np.isfinite(y[-1]) else 'no number'}" for row, x, y in curves
        )
        return svg(figure, name, title, f"Loss of each batch, mean over rounds. {ends}.")


def loss_curve(leg: dict):
    """(epochs, losses) of a leg, the mean over rounds, in at most POINTS blocks of steps; None where no round has losses.

    Of rounds with different numbers of calls or steps, the calls and steps that all of them did.
    """
    runs = [[call["losses"] for call in results.calls(run) if call.get("losses")] for run in records.good_rounds(leg)]
    runs = [calls for calls in runs if calls]
    if not runs:
        return None
    means = []
    for calls in zip(*runs):  # the same call of each round
        common = min(map(len, calls))
        losses = [[np.nan if loss is None else loss for loss in call[:common]] for call in calls]
        means.extend(np.mean(np.array(losses, float), axis=0))
    curve, whole = np.array(means), records.planned_steps(results.typical_run(leg)["work"])
    blocks = np.array_split(np.arange(len(curve)), min(POINTS, len(curve)))
    return [(block.mean() + 1) / whole for block in blocks], [curve[block].mean() for block in blocks]


@drawn_once
def samples(rows: list, task: str, name: str) -> Markup | None:
    """Every epoch of every round as a point, by its distance from the leg's own median: the spread that an interval sums up."""
    groups = [(row, [group for group in results.epoch_seconds(row.leg) if group]) for row in rows]
    groups = [(row, rounds) for row, rounds in groups if statistics.count(rounds) and statistics.median(rounds) > 0]
    if not groups:
        return None
    unit = "epoch" if words.is_trained(task) else "pass"
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(0.75 + 0.36 * len(groups))
        reach = 1.0
        for position, (row, rounds) in enumerate(groups):
            middle = statistics.median(rounds)
            color = LANGUAGE_SERIES.get(row.leg["language"], SERIES[3])
            ends = [100 * (row.result[f"seconds_{end}"] / row.result["seconds_median"] - 1) for end in ("low", "high")]
            off = [[100 * (second / middle - 1) for second in group] for group in rounds]
            strip(axes, off, ends, position, color)
            reach = max(reach, *(abs(percent) for group in off for percent in group))
        axes.axvline(0, color=INK, linewidth=1, zorder=2)
        axes.set_yticks(range(len(groups)), [f"{row.leg['language']}/{row.leg['framework']}" for row, _ in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlim(-1.1 * reach, 1.1 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:+g} %".replace("-", "−") if value else "median")
        )
        axes.set_xlabel(f"seconds of one {unit}, from the leg's own median")
        axes.spines["left"].set_visible(False)
        plain(axes, "x")
        flat = [(row, [second for group in rounds for second in group]) for row, rounds in groups]
        ranges = "; ".join(
            f"{row.leg['leg']} {words.seconds(min(all_))} to {words.seconds(max(all_))} s" for row, all_ in flat
        )
        title = shortened.every_call(task, [row.leg for row, _ in groups])
        title = f"{words.task_title(task)}: {title[0].lower()}{title[1:]}"
        return svg(figure, name, title, f"Seconds of one {unit}: {ranges}.")


@drawn_once
def course(leg: dict, name: str) -> Markup | None:
    """One leg by itself: every sample in seconds and its training loss; None where it has neither."""
    rounds = [group for group in results.epoch_seconds(leg) if group]
    curve = loss_curve(leg)
    if not rounds and curve is None:
        return None
    unit = "epoch" if words.is_trained(leg["task"]) else "pass"
    panels = [kind for kind, there in (("strip", rounds), ("loss", curve)) if there]
    heights = {"strip": 0.85, "loss": 1.75}
    told = []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights[kind] for kind in panels)), layout="constrained")
        grid = figure.subplots(len(panels), squeeze=False, height_ratios=[heights[kind] for kind in panels])
        for kind, axes in zip(panels, grid[:, 0]):
            if kind == "strip":
                color = LANGUAGE_SERIES.get(leg["language"], SERIES[3])
                strip(axes, rounds, statistics.interval(rounds), 0, color)
                axes.axvline(statistics.median(rounds), color=INK, linewidth=1, zorder=2)
                axes.set_yticks([])
                axes.set_ylim(0.45, -0.45)
                axes.set_xlabel(f"seconds of one {unit}")
                axes.spines["left"].set_visible(False)
                plain(axes, "x")
                flat = [second for group in rounds for second in group]
                told.append(f"{words.seconds(min(flat))} to {words.seconds(max(flat))} s for one {unit}")
            else:
                x, y = curve
                axes.plot(x, y, color=SERIES[0], linewidth=1.5)
                axes.set_xlabel("epochs")
                axes.set_ylabel("training loss")
                axes.tick_params(axis="y", labelcolor=MUTED)
                axes.margins(x=0.02)
                plain(axes, "y")
                told.append(f"training loss ends at {f'{y[-1]:.3g}' if np.isfinite(y[-1]) else 'no number'}")
        return svg(figure, name, f"{leg['leg']}: samples and loss", "; ".join(told).capitalize() + ".")


def strip(axes, rounds: list[list[float]], interval: Sequence[float], position: float, color: str) -> None:
    """Every sample around the height `position`, a marker shape and height a process, before the band of its interval."""
    if not any(words.missing(end) for end in interval):
        axes.plot(interval, [position, position], color=RULE, linewidth=13, solid_capstyle="butt", zorder=1)
    for number, group in enumerate(rounds):
        height = position + 0.5 * ((number + 0.5) / len(rounds) - 0.5)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(group, [height] * len(group), marker, color=color, markersize=4.5, markeredgewidth=0, zorder=3)


def upper(result: dict) -> float:
    """Where a bar and its whisker end."""
    return max(result["seconds_median"], 0 if words.missing(result["seconds_high"]) else result["seconds_high"])


def canvas(height: float):
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def plain(axes, grid: str) -> None:
    axes.grid(axis=grid)
    axes.set_axisbelow(True)


def svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an <svg> element, with its ids made unique on the page by `name` and a text for who can't see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"#a0b0[cd]\d", lambda match: VARIABLES[match[0]], text)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--sans)", text)
    box = re.search(r'viewBox="([^"]*)"', text)[1]
    head = (
        f'<svg class="chart" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" role="img" '
        f'aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
    )
    return Markup(head + text[text.index(">") + 1 :])
