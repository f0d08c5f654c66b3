"""A report as plain text: a table of labels, the averages at 0.5 and at the thresholds, the policy, warnings."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlclf.decision_metrics import DecisionFigures

if TYPE_CHECKING:
    from mlclf.report import Report

# Tables of more labels than this are cut to the most frequent and the worst ones.
_WHOLE_TABLE = 50
_FREQUENT, _WORST = 30, 10

_WIDTH = 100
_LONGEST_NAME = 40

# Where subset accuracy and Hamming loss stand beside the averages of precision, recall and F1.
_AVERAGES = ("micro", "macro", "weighted", "samples")


def report_text(report: Report) -> str:
    """Return a report as plain text.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
    """
    notes = [_wrapped(note) for note in report_notes(report)]
    parts = [heading(report), _label_tables(report), _summary(report), _ranking(report), *notes]
    return "\n\n".join(parts)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return rows as columns of equal width, the first one flush left and the others flush right.

    Examples
    --------
    >>> print(table(["label", "F1"], [["joy", "0.5"], ["surprise", "0.25"]]))
    label       F1
    joy        0.5
    surprise  0.25
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (header, *rows)
    ]
    return "\n".join(lines)


def heading(report: Report) -> str:
    """Return what was evaluated and by which thresholds, in a line."""
    limit = "" if report.top_k is None else f", at most {report.top_k} labels a row"
    return f"{report.n_samples:,} rows, {report.n_labels:,} labels; thresholds: {report.rule}{limit}"


def _label_tables(report: Report) -> str:
    everything = np.arange(report.n_labels)
    if report.n_labels <= _WHOLE_TABLE:
        return _label_table(report, everything)
    frequent = np.sort(np.argsort(-report.support, kind="stable")[:_FREQUENT])
    rest = np.setdiff1d(everything[report.support > 0], frequent)
    worst = rest[np.argsort(report.tuned.labels.f1[rest], kind="stable")[:_WORST]]
    text = f"The {_FREQUENT} most frequent of {report.n_labels:,} labels (all: to_frame()):\n"
    text += _label_table(report, frequent)
    if len(worst):
        text += f"\n\nThe {len(worst)} worst of the others that apply to some row:\n" + _label_table(report, worst)
    return text


def _label_table(report: Report, columns: NDArray[np.int64]) -> str:
    header = ["label", "support", "predicted", "threshold", "precision", "recall", "F1", "F1 at 0.5", "avg. precision"]
    labels = report.tuned.labels
    numbers = (
        report.thresholds, labels.precision, labels.recall, labels.f1, report.at_half.labels.f1,
        report.average_precision,
    )  # fmt: skip
    rows = [
        [
            _name(report.names[i]),
            f"{report.support[i]:,}",
            f"{labels.predicted[i]:,}",
            *(figure(x[i]) for x in numbers),
        ]
        for i in columns
    ]
    return table(header, rows)


def _summary(report: Report) -> str:
    header = ["", "precision", "recall", "F1", "|", "at 0.5: precision", "recall", "F1"]
    return table(header, [[name, *tuned, "|", *half] for name, tuned, half in summary_rows(report)])


def summary_rows(report: Report) -> list[tuple[str, list[str], list[str]]]:
    """Return averages and row figures.

    Returns
    -------
    list of (str, list of str, list of str)
        What it is; precision, recall and F1 at the thresholds and at 0.5. A figure of rows stands in the place of F1.
    """
    rows = []
    for name in _AVERAGES:
        pair = getattr(report.tuned, name), getattr(report.at_half, name)
        tuned, half = ([figure(x) for x in (each.precision, each.recall, each.f1)] for each in pair)
        rows.append((f"{name} average", tuned, half))
    for name, (tuned_figure, half_figure) in _row_figures(report).items():
        rows.append((name, ["", "", tuned_figure], ["", "", half_figure]))
    return rows


def _row_figures(report: Report) -> dict[str, tuple[str, str]]:
    def pair(figures: DecisionFigures) -> tuple[str, str, str]:
        return figure(figures.subset_accuracy), figure(figures.hamming_loss), f"{figures.empty_predicted:,}"

    names = ("subset accuracy", "Hamming loss", f"rows without predicted label (true: {report.n_empty:,})")
    return dict(zip(names, zip(pair(report.tuned), pair(report.at_half), strict=True), strict=True))


def _ranking(report: Report) -> str:
    values = {"Ranking, without thresholds": "", **ranking_figures(report)}
    return table(list(values), [list(values.values())])


def ranking_figures(report: Report) -> dict[str, str]:
    """Return the figures that need no threshold, by name."""
    ranking = report.ranking
    return {
        "mean avg. precision": figure(ranking.mean_average_precision),
        "LRAP": figure(ranking.label_ranking_average_precision),
        **{f"P@{k}": figure(value) for k, value in ranking.precision_at.items()},
        "calibration error": figure(ranking.calibration_error),
    }


def report_notes(report: Report) -> list[str]:
    """Return the policy and whatever the reader must be warned of."""
    notes = ["Policy: " + report.policy.describe()]
    if report.n_unknown:
        notes.append(f"Left out: {report.n_unknown:,} unknown cells.")
    if report.n_dropped:
        notes.append(
            f"Missed: {report.n_dropped:,} true labels that the model does not know count in micro and sample averages "
            "and in subset accuracy."
        )
    if report.n_samples and not report.tuned.labels.predicted.any():
        notes.append("Warning: no label is predicted for any row.")
    elif report.never_predicted:
        missed = report.never_predicted
        names = ", ".join(map(_name, missed[:10])) + (", ..." if len(missed) > 10 else "")
        share = f"{len(missed):,} of {report.n_labels:,} labels"
        notes.append(f"Warning: never predicted, though they apply to some row: {names} ({share}).")
    return notes


def figure(value: float) -> str:
    """Return a figure with three digits, or a dash where it is not defined."""
    return "-" if np.isnan(value) else f"{value:.3f}"


def _name(name: str | int) -> str:
    """Return a name that fits the table; whatever would break its lines is escaped."""
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(name))
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
