"""Numbers, dates and names as a reader wants them. A number that was not measured becomes an empty text."""

import math
import re
from datetime import datetime, timezone

from ..tasks import TASKS

SYMBOLS = {
    "ok": "✓",
    "mismatch": "≠",
    "variant": "△",
    "unavailable": "○",
    "unsupported": "∅",
    "retired": "†",
    "failed": "✕",
    "timeout": "◷",
    "out-of-memory": "▣",
    "invalid": "!",
}
"""A sign for each status, beside its word: colour alone tells nobody anything who can't see it."""

PROOFS = {
    "exact": "≡",
    "mismatch": "≠",
    "variant": "△",
    "not run": "?",
}
"""A sign for each outcome of the proof; that of `exact` is not that of `ok`, beside which it stands."""


def missing(value) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def decimals(value: float) -> int:
    """Digits after the point that leave about three significant ones."""
    if value == 0 or abs(value) >= 100:
        return 0
    return min(6, 2 - math.floor(math.log10(abs(value))))


def seconds(value) -> str:
    return "" if missing(value) else f"{value:,.{decimals(value)}f}"


def interval(low, high) -> str:
    """`1.20–1.31`, both with the digits of the lower."""
    if missing(low) or missing(high):
        return ""
    places = decimals(low)
    return f"{low:,.{places}f}–{high:,.{places}f}"


def ratio(value) -> str:
    return "" if missing(value) else f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def whole(value) -> str:
    return "" if missing(value) else f"{value:,.0f}"


def rate(value) -> str:
    """Samples per second: three significant digits are all that a benchmark has."""
    return "" if missing(value) else f"{value:,.{decimals(value)}f}"


def percent(value) -> str:
    return "" if missing(value) else f"{100 * value:.1f} %"


def difference(value) -> str:
    """A difference from the golden value; None means that it was not a finite number."""
    if value is None:
        return "not finite"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return "0" if value == 0 else f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def plural(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}es" if noun.endswith("s") else f"{number:,} {noun}s"


def listed(names) -> str:
    """`a, b and c`."""
    names = [str(name) for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def capfirst(text: str) -> str:
    return text[:1].upper() + text[1:]


def is_trained(task: str) -> bool:
    return task not in TASKS or TASKS[task].trained


def task_title(task: str) -> str:
    return TASKS[task].title if task in TASKS else task


def amount(task: str, epochs: int, samples: int) -> str:
    """`3 epochs of 640 samples`; a forward-only task has passes."""
    return f"{plural(epochs, 'epoch' if is_trained(task) else 'pass')} of {samples:,} samples"


def job(task: str, work: dict) -> str:
    return amount(task, work["epochs"], work["samples"])


def full_job(task: str, work: dict) -> str:
    return amount(task, work["full_epochs"], work["full_samples"])


def moment(text: str) -> datetime | None:
    """The time of an ISO date, in UTC; None where it can't be read."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.astimezone(timezone.utc)


def when(texts) -> str:
    """`23 November 2026, 14:02 to 14:31 UTC` from ISO dates; what is no date is repeated as it stands."""
    moments = sorted(filter(None, map(moment, texts)))
    if not moments:
        return listed(sorted(set(texts)))
    first, last = moments[0], moments[-1]
    day = f"{first.day} {first:%B %Y}, {first:%H:%M}"
    if f"{first:%Y-%m-%d %H:%M}" == f"{last:%Y-%m-%d %H:%M}":
        return f"{day} UTC"
    return (
        f"{day} to {f'{last:%H:%M}' if first.date() == last.date() else f'{last.day} {last:%B %Y}, {last:%H:%M}'} UTC"
    )


def short(commit) -> str:
    return str(commit or "")[:10]


def slug(*parts: str) -> str:
    """A name for an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def markdown(value) -> str:
    """Text for a cell of a Markdown table, on one line, with nothing in it that Markdown or HTML would read as a sign."""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|*_`\[\]#~])", r"\\\1", text)
