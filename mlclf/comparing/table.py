"""The table of a comparison: a row for each cell, mean and spread over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlclf.comparing.matrix import Cell
from mlclf.strategy_table import percent

FIGURES = ("micro_f1", "macro_f1", "samples_f1", "mean_average_precision", "micro_f1_at_half", "macro_f1_at_half")
COSTS = ("seconds", "rows_per_second", "peak_memory", "peak_gpu_memory", "share", "n_trainable")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over the seeds.

    Parameters
    ----------
    mean : float
    std : float or None
        None for a single seed.

    Examples
    --------
    >>> str(Spread.of([0.5, 0.6])), str(Spread.of([0.5]))
    ('0.550 ± 0.071', '0.500')
    """

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.std is None else f"{self.mean:.3f} ± {self.std:.3f}"


@dataclass(frozen=True)
class CellSummary:
    """What was measured of one cell.

    Parameters
    ----------
    number : int
        Of the cell in tables and plots, best micro-F1 first.
    cell : Cell
    seeds : tuple of int
        Of the finished runs.
    figures : dict of str to Spread
        Figures on the test rows, and costs; those in ``COSTS`` that a machine does not have are absent.
    chosen : tuple of str
        What strategy ``auto`` stood for; empty for other strategies.
    """

    number: int
    cell: Cell
    seeds: tuple[int, ...]
    figures: dict[str, Spread]
    chosen: tuple[str, ...] = ()

    @property
    def strategy(self) -> str:
        """The cell's strategy, and what was chosen for ``auto``."""
        return f"{self.cell.strategy} → {', '.join(self.chosen)}" if self.chosen else self.cell.strategy

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "number": self.number,
            **{kind: getattr(self.cell, kind) for kind in ("backbone", "strategy", "head")},
            "components": self.cell.entries,
            "chosen": list(self.chosen),
            "seeds": list(self.seeds),
            "figures": {name: {"mean": spread.mean, "std": spread.std} for name, spread in self.figures.items()},
        }


def summarise(runs: Iterable[tuple[Cell, int, dict[str, Any]]]) -> list[CellSummary]:
    """Bring finished runs together, best micro-F1 first.

    Parameters
    ----------
    runs : iterable of (Cell, int, dict)
        Cell, seed and result of each finished run.
    """
    by_title: dict[str, list[tuple[Cell, int, dict[str, Any]]]] = {}
    for run in runs:
        by_title.setdefault(run[0].title, []).append(run)
    figures = {title: _figures([result for *_, result in found]) for title, found in by_title.items()}
    order = sorted(by_title, key=lambda title: (-figures[title]["micro_f1"].mean, title))
    return [
        CellSummary(
            number=number,
            cell=by_title[title][0][0],
            seeds=tuple(sorted(seed for _, seed, _ in by_title[title])),
            figures=figures[title],
            chosen=_chosen([result for *_, result in by_title[title]]),
        )
        for number, title in enumerate(order, start=1)
    ]


def columns(summaries: Sequence[CellSummary]) -> list[tuple[str, list[str]]]:
    """Return the columns of the table, name and cells; components that are the same everywhere are left out."""
    table = [("#", [str(row.number) for row in summaries])]
    for kind in ("backbone", "strategy", "head"):
        cells = [row.strategy if kind == "strategy" else getattr(row.cell, kind) for row in summaries]
        if kind == "strategy" or len(set(cells)) > 1:
            table.append((kind, cells))
    table.append(("seeds", [str(len(row.seeds)) for row in summaries]))
    for name, figure in _SCORES.items():
        table.append((name, [str(row.figures[figure]) for row in summaries]))
    table.append(("fit s", [_rounded(row.figures["seconds"]) for row in summaries]))
    table.append(("rows/s", [f"{row.figures['rows_per_second'].mean:.0f}" for row in summaries]))
    table.append(("peak MiB", [f"{row.figures['peak_memory'].mean / 2**20:.0f}" for row in summaries]))
    if any("peak_gpu_memory" in row.figures for row in summaries):
        table.append(("GPU MiB", [_mebibytes(row.figures.get("peak_gpu_memory")) for row in summaries]))
    table.append(("trainable", [percent(row.figures["share"].mean) for row in summaries]))
    return table


_SCORES = {
    "micro-F1": "micro_f1",
    "macro-F1": "macro_f1",
    "mAP": "mean_average_precision",
    "micro-F1 at 0.5": "micro_f1_at_half",
}


def _figures(results: list[dict[str, Any]]) -> dict[str, Spread]:
    rows = [{**result["figures"], **{name: result[name] for name in COSTS}} for result in results]
    return {
        name: Spread.of([row[name] for row in rows])
        for name in (*FIGURES, *COSTS)
        if all(row[name] is not None for row in rows)
    }


def _chosen(results: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted({result["choice"]["strategy"] for result in results if result["choice"] is not None}))


def _rounded(seconds: Spread) -> str:
    digits = 1 if seconds.mean < 10 else 0
    mean = f"{seconds.mean:.{digits}f}"
    return mean if seconds.std is None else f"{mean} ± {seconds.std:.{digits}f}"


def _mebibytes(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.mean / 2**20:.0f}"
