"""Charts of a report: precision, recall and F1 over thresholds, and how far probabilities are to be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlclf.charts.axis import Axis
from mlclf.charts.document import shown
from mlclf.charts.frame import Frame, text
from mlclf.report_details import ReportDetails
from mlclf.report_page.label_table import name_of
from mlclf.report_text import figure

if TYPE_CHECKING:
    from mlclf.reliability import Reliability
    from mlclf.report import Report

# Charts that are seen at once; the others are folded away.
_OPEN = 12
_UNIT = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
_SERIES = ("precision", "recall", "F1")
_LIMITED = " The limit on the labels of a row is not applied here."


def curves_section(report: Report, details: ReportDetails) -> list[str]:
    """Return the charts over thresholds: all labels together, then those with most support.

    Parameters
    ----------
    report : Report
    details : ReportDetails
    """
    curves = details.curves
    kept = "" if details.kept_cells is None else (
        f" Computed from the {details.kept_cells:,} most probable labels of each text: at low thresholds, precision is "
        "lower and recall higher than drawn."
    )  # fmt: skip
    charts = [
        _chart(report, int(column), curves.grid, curves.predicted[i], curves.hits[i], int(curves.positives[i]))
        for i, column in enumerate(curves.columns)
        if curves.positives[i]
    ]
    left = int((report.support > 0).sum()) - len(charts)
    more = f" {left:,} more labels that apply to some row have none." if left else ""
    explained = (
        f"What each label's figures would be at other thresholds; the line marks the chosen one. The labels with most "
        f"support come first.{more}{kept}{_LIMITED if report.top_k is not None else ''}"
    )
    folded = charts[_OPEN:]
    return [
        "<h2>Thresholds</h2>",
        f"<p>{shown(explained)}</p>",
        '<div class="plots">',
        _together(report, details),
        *charts[:_OPEN],
        "</div>",
        *(
            [f'<details><summary>{len(folded):,} more labels</summary><div class="plots">', *folded, "</div></details>"]
            if folded
            else []
        ),
    ]


def _together(report: Report, details: ReportDetails) -> str:
    curves = details.curves
    lines = _lines(curves.all_predicted, curves.all_hits, curves.all_positives)
    svg = _svg("curve-all", "All labels at one threshold", curves.grid, lines, None)
    return f"<figure><h3>All labels together, at one threshold</h3>{svg}</figure>"


def _chart(
    report: Report,
    column: int,
    grid: NDArray[np.float32],
    predicted: NDArray[np.int64],
    hits: NDArray[np.int64],
    positives: int,
) -> str:
    labels = report.tuned.labels
    here = tuple(float(x[column]) for x in (labels.precision, labels.recall, labels.f1))
    chosen = float(report.thresholds[column])
    title = f"Precision, recall and F1 of {report.names[column]} over thresholds"
    svg = _svg(f"chart-{column}", title, grid, _lines(predicted, hits, positives), (chosen, here))
    caption = f"support {positives:,}; at {chosen:.3f}: " + ", ".join(
        f"{name} {figure(value)}" for name, value in zip(_SERIES, here, strict=True)
    )
    name = name_of(report, column)
    return f'<figure id="curve-{column}"><h3>{name}</h3>{svg}<figcaption>{caption}</figcaption></figure>'


def _lines(predicted: NDArray[np.int64], hits: NDArray[np.int64], positives: int) -> tuple[NDArray[np.float64], ...]:
    """Return precision, recall and F1 at each threshold; NaN where nothing is predicted and precision has no value."""
    precision = np.where(predicted > 0, hits / np.maximum(predicted, 1), np.nan)
    return precision, hits / max(positives, 1), 2 * hits / np.maximum(predicted + positives, 1)


def _svg(
    name: str,
    title: str,
    grid: NDArray[np.float32],
    lines: tuple[NDArray[np.float64], ...],
    chosen: tuple[float, tuple[float, ...]] | None,
) -> str:
    frame = Frame(_UNIT, _UNIT, width=400, height=270, left=48, right=16, top=40)
    elements = [*frame.grid("{:g}".format, "{:g}".format), *frame.labels("threshold", "")]
    for i, (series, values) in enumerate(zip(_SERIES, lines, strict=True)):
        points = [(x, y) for x, y in zip(grid.tolist(), values.tolist(), strict=True) if y == y]
        elements.append(frame.path(points, f"s{i}"))
        elements.append(text(frame.left + 45 + 105 * i, 24, series, kind=f"key key{i}"))
    if chosen is not None:
        x = frame.x(chosen[0])
        elements.append(f'<line class="chosen" x1="{x:.1f}" y1="{frame.top}" x2="{x:.1f}" y2="{frame.y(0):.1f}"/>')
        elements += [
            f'<circle class="dot{i}" cx="{x:.1f}" cy="{frame.y(value):.1f}" r="5"/>'
            for i, value in enumerate(chosen[1])
        ]
    best = int(np.argmax(lines[2]))
    words = f"F1 is largest, {lines[2][best]:.3f}, at the threshold {grid[best]:.2f}"
    words += "" if chosen is None else f"; the chosen threshold is {chosen[0]:.3f}"
    return frame.svg(name, title, words, elements)


def calibration_section(report: Report, found: Reliability) -> list[str]:
    """Return the calibration plot.

    Parameters
    ----------
    report : Report
    found : Reliability
    """
    explained = (
        "What has a probability of 0.7 should be right in 7 of 10 cases: that is the diagonal. Below it, the model is "
        "too sure. Columns show how many cells (a text and a label) have such a probability, on a logarithmic scale. "
        f"Expected calibration error: {figure(report.ranking.calibration_error)}."
    )
    filled = np.flatnonzero(found.cells > 0)
    if not len(filled):
        return ["<h2>Calibration</h2>", '<p class="missing">No cell is known.</p>']
    return [
        "<h2>Calibration</h2>",
        f"<p>{shown(explained)}</p>",
        f'<div class="one"><figure>{_reliability(found, filled)}</figure></div>',
    ]


def _reliability(found: Reliability, filled: NDArray[np.int64]) -> str:
    frame = Frame(_UNIT, _UNIT, width=440, height=340, left=64, right=16)
    mean = found.probability[filled] / found.cells[filled]
    share = found.positives[filled] / found.cells[filled]
    points = list(zip(mean.tolist(), share.tolist(), strict=True))
    labels = frame.labels("mean probability", "share that applies")
    elements = [*_bars(frame, found), *frame.grid("{:g}".format, "{:g}".format), *labels]
    elements += [frame.path([(0, 0), (1, 1)], "diagonal"), frame.path(points, "line")]
    for (x, y), cells in zip(points, found.cells[filled].tolist(), strict=True):
        words = f"<title>{cells:,} cells, probability {x:.3f}, {y:.3f} apply</title>"
        elements.append(f'<circle class="dot0" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="5">{words}</circle>')
    said = "; ".join(f"at {x:.2f}: {y:.2f}" for x, y in points)
    return frame.svg("calibration", "Probability and share of cells to which the label applies", said, elements)


def _bars(frame: Frame, found: Reliability) -> list[str]:
    """Return a column for each bin, up to half of the height, by the logarithm of its cells."""
    n_bins, heights = len(found.cells), np.log1p(found.cells)
    heights = heights / (2 * heights.max())
    return [
        f'<rect class="bar" x="{frame.x(i / n_bins) + 2:.1f}" y="{frame.y(height):.1f}" '
        f'width="{frame.x(1 / n_bins) - frame.x(0) - 4:.1f}" height="{frame.y(0) - frame.y(height):.1f}"/>'
        for i, height in enumerate(heights.tolist())
    ]
