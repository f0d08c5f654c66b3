"""The page of a comparison: one HTML file that needs nothing beside it and asks no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from mlclf.charts.document import COLOURS, document, rows_of_cells, scrolled
from mlclf.comparing.matrix import Refusal
from mlclf.comparing.plots import PLOTS, svg
from mlclf.comparing.table import CellSummary, columns

if TYPE_CHECKING:
    from mlclf.comparing.comparison import Comparison

_STYLE = """
.point circle { stroke: var(--back); } .point line { stroke-width: 2; }
.point text { fill: #ffffff; stroke: none; font-weight: 600; font-size: 13px; }
""" + "".join(f".c{n} {{ fill: var(--c{n}); stroke: var(--c{n}); }} " for n in range(COLOURS))
_NAMES = ("backbone", "strategy", "head")


def page(comparison: Comparison) -> str:
    """Return the page; every text that comes from outside is escaped.

    Parameters
    ----------
    comparison : Comparison
    """
    cells = comparison.cells
    body = [
        "<h1>Comparison of backbones, strategies and heads</h1>",
        f"<p>{escape(comparison.in_words)}</p>",
        *(_measured(cells) if cells else ["<p>No run has finished.</p>"]),
        *_listed("Failed", "These ended with an error; the same command tries them again.", comparison.failed),
        *_listed("Refused", "These do not go together, and were not fitted.", comparison.refused),
        "<h2>How it was measured</h2>",
        _facts(comparison.facts),
        _runs(comparison),
    ]
    return document(f"mlclf compare: {comparison.rows.source}", body, style=_STYLE)


def _measured(cells: Sequence[CellSummary]) -> list[str]:
    explained = (
        "On the test rows, best micro-F1 first. Mean ± standard deviation over the seeds; thresholds were tuned on "
        "validation rows. Memory is the largest of the whole process, libraries included. Trainable: share of the "
        "backbone's parameters, without pooling and head."
    )
    return [
        "<h2>Figures</h2>",
        _table("figures", explained, columns(cells)),
        "<h2>F1 and its cost</h2>",
        '<div class="plots">',
        *(
            f"<figure>{svg(plot, cells)}<figcaption>{escape(plot.title)}. Numbers are those of the table"
            f"{_key(cells)}.</figcaption></figure>"
            for plot in PLOTS
        ),
        "</div>",
    ]


def _key(cells: Sequence[CellSummary]) -> str:
    """Return which numbers belong to which backbone, where colours tell several apart."""
    by_backbone: dict[str, list[str]] = {}
    for row in cells:
        by_backbone.setdefault(row.cell.backbone, []).append(str(row.number))
    if len(by_backbone) == 1:
        return ""
    parts = (f"{escape(name)}: {', '.join(numbers)}" for name, numbers in sorted(by_backbone.items()))
    return f"; a colour for each backbone ({'; '.join(parts)})"


def _table(name: str, explained: str, table: list[tuple[str, list[str]]]) -> str:
    """Return a table of columns."""
    classes = [' class="name"' if column in _NAMES else "" for column, _ in table]
    head = [f'<th scope="col"{kind}>{escape(text)}</th>' for kind, (text, _) in zip(classes, table, strict=True)]
    rows = [
        [f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(classes, row, strict=True)]
        for row in zip(*(cells for _, cells in table), strict=True)
    ]
    return scrolled(name, explained, rows_of_cells(head, rows))


def _listed(title: str, explained: str, refusals: Iterable[Refusal]) -> list[str]:
    items = [f"<dt>{escape(item.title)}</dt><dd><pre>{escape(item.reason)}</pre></dd>" for item in refusals]
    return [f"<h2>{title}</h2>", f"<p>{explained}</p>", "<dl>", *items, "</dl>"] if items else []


def _facts(facts: dict[str, str]) -> str:
    items = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return "<dl>" + "".join(items) + "</dl>"


def _runs(comparison: Comparison) -> str:
    """Return every single run, folded away."""
    if not comparison.runs:
        return ""
    table: list[tuple[str, list[str]]] = [
        (kind, [getattr(run.cell, kind) for run in comparison.runs]) for kind in _NAMES
    ]
    table.append(("seed", [str(run.seed) for run in comparison.runs]))
    for name in ("micro_f1", "macro_f1", "mean_average_precision"):
        table.append((name.replace("_", " "), [f"{run.result['figures'][name]:.4f}" for run in comparison.runs]))
    table.append(("fit s", [f"{run.result['seconds']:.1f}" for run in comparison.runs]))
    table.append(("precision", [str(run.result["precision"]) for run in comparison.runs]))
    return f"<details><summary>All runs</summary>{_table('runs', 'In the order of seeds.', table)}</details>"
