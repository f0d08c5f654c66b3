"""Plots of a comparison as SVG elements for a page: numbered points with the spread of their seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from mlclf.comparing.axis import Axis
from mlclf.comparing.table import CellSummary, Spread
from mlclf.strategy_table import percent

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 28, 20, 56
_RADIUS = 11
# Classes of the page's style sheet: colours for backbones, begun again where there are more.
_COLOURS = 6


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
    backbones = sorted({row.cell.backbone for row in summaries})
    points = [
        _point(row, plot, _x(across, cost), upwards, backbones.index(row.cell.backbone))
        for row, cost in zip(summaries, costs, strict=True)
    ]
    ids = f"{plot.name}-title", f"{plot.name}-text"
    return "\n".join(
        [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{ids[0]} {ids[1]}">',
            f'<title id="{ids[0]}">{escape(plot.title)}</title>',
            f'<desc id="{ids[1]}">{escape(_described(plot, summaries))}</desc>',
            *_grid(across, upwards, plot),
            # The best are drawn last, so that they lie above those they hide.
            *reversed(points),
            "</svg>",
        ]
    )


def _ends(spread: Spread) -> tuple[float, float]:
    std = spread.std or 0.0
    return max(0.0, spread.mean - std), spread.mean + std


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.place(value) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(across: Axis, upwards: Axis, plot: Plot) -> list[str]:
    """Return lines, numbers and names of both axes."""
    bottom = _HEIGHT - _BOTTOM
    lines = []
    for value in upwards.ticks:
        y = _y(upwards, value)
        lines.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in across.ticks:
        x = _x(across, value)
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(plot.tick(value))}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    label = f"{plot.label} (logarithmic)" if across.logarithmic else plot.label
    lines.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(label)}</text>')
    lines.append(
        f'<text transform="translate(14 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">micro-F1</text>'
    )
    return lines


def _point(row: CellSummary, plot: Plot, x: float, upwards: Axis, backbone: int) -> str:
    """Return a numbered circle with a bar from one standard deviation below to one above."""
    score = row.figures["micro_f1"]
    low, high = (_y(upwards, value) for value in _ends(score))
    y = _y(upwards, score.mean)
    bar = "" if score.std is None else f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>'
    return (
        f'<g class="point c{backbone % _COLOURS}"><title>{escape(_in_words(row, plot))}</title>{bar}'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{row.number}</text></g>'
    )


def _in_words(row: CellSummary, plot: Plot) -> str:
    cost = plot.tick(row.figures[plot.cost].mean / plot.scale)
    return f"{row.number}: {row.cell.title}, micro-F1 {row.figures['micro_f1']}, {plot.label}: {cost}"


def _described(plot: Plot, summaries: Sequence[CellSummary]) -> str:
    """Return the plot in words, for those who do not see it."""
    return "; ".join(_in_words(row, plot) for row in summaries)
