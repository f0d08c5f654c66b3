"""Progress bar of a training run: loss, speed and remaining time, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress(Protocol):
    """What the training loop reports to."""

    def advance(self, loss: float, rows: int) -> None:
        """Report a step."""


class SilentProgress:
    """Reports nothing."""

    def advance(self, loss: float, rows: int) -> None:
        """Do nothing."""


class BarProgress:
    """Draws a bar with rich."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._loss: float | None = None

    def advance(self, loss: float, rows: int) -> None:
        """Move the bar by the rows learned from and show a smoothed loss."""
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        rate = self._bar.tasks[0].speed
        speed = f"{rate:.0f} rows/s" if rate else ""
        self._bar.update(self._task, advance=rows, loss=f"{self._loss:.4f}", speed=speed)


@contextmanager
def training_progress(verbose: int, total_rows: int, done_rows: int = 0) -> Iterator[Progress]:
    """Give a bar on a terminal, and silence elsewhere or with ``verbose=0``.

    Parameters
    ----------
    verbose : int
        0 for silence.
    total_rows, done_rows : int
        Rows of the whole run, and those learned from before it was resumed.
    """
    if not verbose or not sys.stderr.isatty():
        yield SilentProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=total_rows, completed=done_rows, loss="-", speed="")
        yield BarProgress(bar, task)
