"""What a long preparation tells the person who waits for it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.console
import rich.progress


class Progress:
    """Says nothing. The base for those who say it somewhere."""

    def note(self, text: str) -> None:
        """One line that the user should read."""

    @contextmanager
    def stage(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A piece of work of `total` parts; gives a function that is called with how many more are done."""
        yield lambda done: None


class Bars(Progress):
    """Notes and progress bars on standard error; bars only where it is a terminal."""

    def __init__(self):
        self._console = rich.console.Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def note(self, text):
        self._console.print(text, markup=False)

    @contextmanager
    def stage(self, text, total):
        columns = (*rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn())
        with rich.progress.Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(text, total=total)
            yield lambda done: bars.advance(task, done)
