"""The table of labels, which its own small script sorts and filters; it is whole without the script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlclf.charts.document import rows_of_cells, scrolled, shown
from mlclf.report_text import figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlclf.report import Report

# Rows of the table: browsers sort as many without a wait.
MOST_ROWS = 5000

_HEADS = (
    "label", "support", "predicted", "threshold", "precision", "recall", "F1",
    "precision at 0.5", "recall at 0.5", "F1 at 0.5", "avg. precision",
)  # fmt: skip

# It touches the table "labels" alone, reads text as text, and writes none.
SCRIPT = """
"use strict";
(() => {
  const table = document.querySelector(".tall table");
  const body = table.tBodies[0];
  const number = text => text === "-" ? NaN : Number(text.replaceAll(",", ""));
  const value = (row, i) => i ? number(row.cells[i].textContent) : row.cells[0].textContent;
  const compare = (a, b) => typeof a === "string" ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.ariaSort ? head.ariaSort === "descending" : i === 0;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map(row => [value(row, i), row]);
      const known = rows.filter(([key]) => !Number.isNaN(key)), rest = rows.filter(([key]) => Number.isNaN(key));
      known.sort((a, b) => (up ? 1 : -1) * compare(a[0], b[0]));
      body.append(...known.concat(rest).map(([, row]) => row));
    });
  });
  const filter = document.createElement("input");
  filter.id = "filter"; filter.type = "search"; filter.placeholder = "Only labels with ...";
  filter.setAttribute("aria-label", filter.placeholder);
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
  document.getElementById("labels").after(filter);
})();
"""


def label_section(report: Report) -> list[str]:
    """Return the section of all labels.

    Parameters
    ----------
    report : Report
    """
    columns = np.arange(report.n_labels)
    explained = "At the thresholds and at 0.5; a click on a heading sorts."
    if report.n_labels > MOST_ROWS:
        columns = np.sort(np.argsort(-report.support, kind="stable")[:MOST_ROWS])
        explained += f" The {MOST_ROWS:,} most frequent of {report.n_labels:,} labels; to_frame() has all."
    if report.details is not None:
        explained += " A label's name leads to its curves where it has any."
    curves = set() if report.details is None else set(report.details.curves.columns.tolist())
    kinds = ['class="name" ', *[""] * (len(_HEADS) - 1)]
    head = [f'<th {kind}scope="col">{name}</th>' for kind, name in zip(kinds, _HEADS, strict=True)]
    table = rows_of_cells(head, _rows(report, columns, curves))
    return ["<h2>Labels</h2>", scrolled("labels", explained, table, box="wide tall")]


def name_of(report: Report, column: int) -> str:
    """Return a label's name as HTML that keeps its direction of writing to itself."""
    return f"<bdi>{shown(report.names[column])}</bdi>"


def _rows(report: Report, columns: NDArray[np.int64], curves: set[int]) -> list[list[str]]:
    tuned, half = report.tuned.labels, report.at_half.labels
    counts = (report.support, tuned.predicted)
    numbers = (
        report.thresholds, tuned.precision, tuned.recall, tuned.f1, half.precision, half.recall, half.f1,
        report.average_precision,
    )  # fmt: skip
    rows = []
    for column in columns.tolist():
        name = name_of(report, column)
        linked = f'<a href="#curve-{column}">{name}</a>' if column in curves else name
        values = [*(f"{x[column]:,}" for x in counts), *(figure(x[column]) for x in numbers)]
        rows.append([f'<th class="name" scope="row">{linked}</th>', *(f"<td>{value}</td>" for value in values)])
    return rows
