"""Plots of a comparison as SVG elements for a page: numbered points with the spread of their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from mlclf.charts.axis import Axis
from mlclf.charts.document import COLOURS
from mlclf.charts.frame import Frame, text
from mlclf.comparing.table import CellSummary, Spread
from mlclf.strategy_table import percent

_RADIUS = 11


@dataclass(frozen=True)
class Plot:
    """F1 against one cost.

    Parameters
    ----------
    name : str
        For ids in the page.
    title : str
    cost : str
        Figure of :class:`~mlclf.comparing.table.CellSummary` on the horizontal axis.
    label : str
        Of that axis.
    scale : float
        What the figure is divided by.
    tick : callable
        Writes a value of that axis.
    """

    name: str
    title: str
    cost: str
    label: str
    scale: float
    tick: Callable[[float], str]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


PLOTS = (
    Plot("seconds", "micro-F1 and time of training", "seconds", "seconds of a fit", 1.0, _plain),
    Plot("memory", "micro-F1 and memory", "peak_memory", "largest memory of the process, MiB", float(1 << 20), _plain),
    Plot(
        "share", "micro-F1 and trainable share", "share", "trainable share of the backbone, without head", 1.0, percent
    ),
)


def svg(plot: Plot, summaries: Sequence[CellSummary]) -> str:
    """Return a plot as an ``svg`` element; every text in it is escaped.

    Parameters
    ----------
    plot : Plot
    summaries : sequence of CellSummary
        At least one.
    """
    costs = [row.figures[plot.cost].mean / plot.scale for row in summaries]
    scores = [row.figures["micro_f1"] for row in summaries]
    across = Axis.over(costs)
    upwards = Axis.over([value for spread in scores for value in _ends(spread)], logarithmic=False)
    frame = Frame(across, upwards)
    backbones = sorted({row.cell.backbone for row in summaries})
    points = [
        _point(row, plot, frame, cost, backbones.index(row.cell.backbone))
        for row, cost in zip(summaries, costs, strict=True)
    ]
    label = f"{plot.label} (logarithmic)" if across.logarithmic else plot.label
    axes = [*frame.grid(plot.tick, "{:g}".format), *frame.labels(label, "micro-F1")]
    # The best are drawn last, so that they lie above those they hide.
    return frame.svg(plot.name, plot.title, _described(plot, summaries), [*axes, *reversed(points)])


def _ends(spread: Spread) -> tuple[float, float]:
    std = spread.std or 0.0
    return max(0.0, spread.mean - std), spread.mean + std


def _point(row: CellSummary, plot: Plot, frame: Frame, cost: float, backbone: int) -> str:
    """Return a numbered circle with a bar from one standard deviation below to one above."""
    score = row.figures["micro_f1"]
    low, high = (frame.y(value) for value in _ends(score))
    x, y = frame.x(cost), frame.y(score.mean)
    bar = "" if score.std is None else f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>'
    return (
        f'<g class="point c{backbone % COLOURS}"><title>{escape(_in_words(row, plot))}</title>{bar}'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>{text(x, y + 4, str(row.number))}</g>'
    )


def _in_words(row: CellSummary, plot: Plot) -> str:
    cost = plot.tick(row.figures[plot.cost].mean / plot.scale)
    return f"{row.number}: {row.cell.title}, micro-F1 {row.figures['micro_f1']}, {plot.label}: {cost}"


def _described(plot: Plot, summaries: Sequence[CellSummary]) -> str:
    """Return the plot in words, for those who do not see it."""
    return "; ".join(_in_words(row, plot) for row in summaries)
