"""Progress of a comparison: a bar on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress(Protocol):
    """What a comparison reports to."""

    def say(self, line: str) -> None:
        """Show a line of text."""

    def advance(self, line: str) -> None:
        """Report the end of a run, with a line about it."""


class Silence:
    """Shows nothing."""

    def say(self, line: str) -> None:
        """Do nothing."""

    def advance(self, line: str) -> None:
        """Do nothing."""


class Lines:
    """Writes a line for each run to standard error.

    Parameters
    ----------
    total : int
        Runs to come.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()

    def say(self, line: str) -> None:
        """Write a line."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def advance(self, line: str) -> None:
        """Write how many runs have ended, and how long the others may take."""
        self._done += 1
        left = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        about = f", about {duration(left)} left" if self._done < self._total else ""
        self.say(f"[{self._done}/{self._total}{about}] {line}")


class Bar:
    """Draws a bar with rich, and lines above it."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False)

    def advance(self, line: str) -> None:
        """Move the bar by one run."""
        self._bar.advance(self._task)
        self.say(line)


@contextmanager
def comparing_progress(verbose: int, total: int) -> Iterator[Progress]:
    """Give a bar on a terminal, lines elsewhere, and silence with ``verbose=0``.

    Parameters
    ----------
    verbose : int
        0 for silence.
    total : int
        Runs to come.
    """
    if not verbose:
        yield Silence()
        return
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    # Runs last minutes: the speed of the last 30 seconds, rich's own choice, would know of none.
    columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), speed_estimate_period=1e9) as bar:
        yield Bar(bar, bar.add_task("comparing", total=total))


def duration(seconds: float) -> str:
    """Return a duration for reading.

    Examples
    --------
    >>> duration(42.4), duration(200), duration(7300)
    ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
