"""Labels together: tables of the most frequent labels in pairs, and the pairs that stand out among more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlclf.charts.document import rows_of_cells, scrolled, shown
from mlclf.report_page.label_table import name_of

if TYPE_CHECKING:
    from mlclf.report import Report
    from mlclf.report_details import LabelOverlap

# Labels of a square table, and pairs of a list.
_SQUARE = 20
_PAIRS = 30

_TOGETHER = (
    "Rows to which both labels apply, for {}; on the diagonal, rows to which the label applies. Colour: share of the "
    "rows of the label on the left, the largest in full."
)
_CONFUSED = (
    "Rows to which the label on the left applies without being predicted, while the label above is predicted and does "
    "not apply; on the diagonal, rows in which the label on the left is missed. Colour: share of the rows of the label "
    "on the left, the largest in full."
)


def overlap_section(report: Report, overlap: LabelOverlap) -> list[str]:
    """Return which labels apply together and which are taken for each other.

    Parameters
    ----------
    report : Report
    overlap : LabelOverlap
    """
    n = min(_SQUARE, int((np.diagonal(overlap.together) > 0).sum()))
    if not n:
        return ["<h2>Labels together</h2>", '<p class="missing">No label applies to any row.</p>']
    shown_labels = f"the {n} labels with most support" if n < report.n_labels else "all labels"
    compared = (
        f"among the {len(overlap.columns):,} labels with most support" if len(overlap.columns) < report.n_labels else ""
    )
    return [
        "<h2>Labels that apply together</h2>",
        _square(report, overlap, "together", n, _TOGETHER.format(shown_labels)),
        _together(report, overlap, compared),
        "<h2>Confusion</h2>",
        _square(report, overlap, "confused", n, _CONFUSED),
        _confused(report, overlap, compared),
    ]


def _square(report: Report, overlap: LabelOverlap, name: str, n: int, explained: str) -> str:
    """Return a table of labels against labels; columns are numbered as the rows are."""
    counts, own = {
        "together": (overlap.together, np.diagonal(overlap.together)),
        "confused": (overlap.confused, overlap.missed),
    }[name]
    share = counts[:n, :n] / np.maximum(np.diagonal(overlap.together)[:n, None], 1)
    share = share / max(share[~np.eye(n, dtype=np.bool_)].max(initial=0), 1e-9)
    head = ['<th class="name" scope="col">label</th>', '<th scope="col">no.</th>']
    head += [f'<th scope="col" title="{shown(report.names[overlap.columns[i]])}">{i + 1}</th>' for i in range(n)]
    rows = [
        [
            f'<th class="name" scope="row">{name_of(report, int(overlap.columns[i]))}</th><th scope="row">{i + 1}</th>',
            *(
                f'<td class="own">{own[i]:,}</td>'
                if i == j
                else f'<td style="--share:{share[i, j]:.3f}">{counts[i, j] or ""}</td>'
                for j in range(n)
            ),
        ]
        for i in range(n)
    ]
    return scrolled(name, explained, rows_of_cells(head, rows), box="wide heat")


def _together(report: Report, overlap: LabelOverlap, compared: str) -> str:
    """Return the pairs that apply together most often."""
    pairs = _largest(np.triu(overlap.together, 1))
    support = np.diagonal(overlap.together)
    rows = [
        [
            *(f'<td class="name">{name_of(report, int(overlap.columns[k]))}</td>' for k in (i, j)),
            f"<td>{overlap.together[i, j]:,}</td><td>{overlap.predicted_together[i, j]:,}</td>",
            f"<td>{overlap.together[i, j] / support[i]:.2f}</td><td>{overlap.together[i, j] / support[j]:.2f}</td>",
        ]
        for i, j in pairs
    ]
    explained = (
        f"The pairs that apply together most often {compared}".strip() + ", and how often the model predicts both."
    )
    heads = ("first", "second", "together", "predicted together", "of the first", "of the second")
    return _pairs("pairs", explained, heads, rows)


def _confused(report: Report, overlap: LabelOverlap, compared: str) -> str:
    """Return the pairs that are taken for each other most often."""
    support = np.diagonal(overlap.together)
    rows = [
        [
            *(f'<td class="name">{name_of(report, int(overlap.columns[k]))}</td>' for k in (i, j)),
            f"<td>{overlap.confused[i, j]:,}</td><td>{overlap.confused[i, j] / support[i]:.2f}</td>",
        ]
        for i, j in _largest(overlap.confused)
    ]
    explained = f"The pairs that are taken for each other most often {compared}".strip() + "."
    return _pairs("mistaken", explained, ("true, missed", "predicted instead", "rows", "of the first"), rows)


def _pairs(name: str, explained: str, heads: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return f"<p>{shown(explained)} There are none.</p>"
    kinds = ['class="name" ', 'class="name" ', *[""] * (len(heads) - 2)]
    head = [f'<th {kind}scope="col">{text}</th>' for kind, text in zip(kinds, heads, strict=True)]
    table = scrolled(name, explained, rows_of_cells(head, rows))
    return f"<details><summary>{len(rows)} pairs</summary>{table}</details>"


def _largest(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the places of the largest counts above 0, the largest first."""
    flat = counts.ravel()
    order = np.argsort(-flat, kind="stable")[:_PAIRS]
    places = order[flat[order] > 0]
    return [(int(place) // counts.shape[1], int(place) % counts.shape[1]) for place in places]
