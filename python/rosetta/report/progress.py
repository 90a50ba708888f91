"""How far a run has come, for the page that is made while it goes on."""

from dataclasses import dataclass

from . import words

SIGNS = {"waiting": "·", "running": "▸", "proven": "≡", "timed": "✓"}
"""A sign for each state of a leg that a run is not done with, and for `timed`; those of a final status are in words.SYMBOLS."""

UNFINISHED = ("waiting", "running", "proven")


@dataclass(frozen=True)
class Progress:
    """What the page says on top, and of each leg.

    Attributes:
        line: how far the run is, such as `running: 12 of 27 timed, about 6 minutes left`.
        states: {leg: `waiting`, `running`, `proven`, `timed`, or how it ended otherwise}; a reason stands behind a colon: `failed: no memory`.
    """

    line: str
    states: dict[str, str]

    @property
    def sentences(self) -> str:
        """The line as it stands on the page, with what a reader does to see more."""
        if not self.line:
            return ""
        more = " This page is made anew as legs finish; reload it." if self.line.lower().startswith("running") else ""
        return words.capfirst(self.line.rstrip(".")) + "." + more

    def state(self, leg: str) -> str:
        """The word alone; empty for a leg that this run does not run."""
        return self.states.get(leg, "").partition(":")[0].strip()

    def reason(self, leg: str) -> str:
        return self.states.get(leg, "").partition(":")[2].strip()

    def unfinished(self, leg: str) -> bool:
        return self.state(leg) in UNFINISHED


NOTHING_RUNS = Progress("", {})


def sign(state: str) -> str:
    return SIGNS.get(state) or words.SYMBOLS.get(state, "·")
