"""The page of a comparison: one HTML file that needs nothing beside it and asks no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from mlclf.comparing.matrix import Refusal
from mlclf.comparing.plots import PLOTS, svg
from mlclf.comparing.table import CellSummary, columns

if TYPE_CHECKING:
    from mlclf.comparing.comparison import Comparison

# No script, no picture, no address: whatever a name in the tables says, the browser loads and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6370; --back: #ffffff; --line: #d9dde3;
  --c0: #2b5fb3; --c1: #a9471a; --c2: #2a7a3f; --c3: #7d3c98; --c4: #8a6d00; --c5: #94234a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a2aab6; --back: #15181d; --line: #363c45;
  --c0: #4a7fd4; --c1: #c9652f; --c2: #3f9a58; --c3: #a264bd; --c4: #a68a1f; --c5: #c04a72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, dd { max-width: 45rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
.name { text-align: left; white-space: normal; min-width: 7rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); }
svg { width: 100%; height: auto; font: 15px system-ui, sans-serif; } svg text { fill: var(--text); }
.grid { stroke: var(--line); }
.point circle { stroke: var(--back); } .point line { stroke-width: 2; }
.point text { fill: #ffffff; stroke: none; font-weight: 600; font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; }
pre { white-space: pre-wrap; margin: 0; font: inherit; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
""" + "".join(f".c{n} {{ fill: var(--c{n}); stroke: var(--c{n}); }} " for n in range(6))
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
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>mlclf compare: {escape(comparison.rows.source)}</title>",
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            *body,
            "</main>\n</body>\n</html>\n",
        ]
    )


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
    """Return a table in a box that is scrolled where it is wider than the screen, below what explains it."""
    classes = [' class="name"' if column in _NAMES else "" for column, _ in table]
    head = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for kind, (text, _) in zip(classes, table, strict=True))
    rows = [
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(classes, row, strict=True)) + "</tr>"
        for row in zip(*(cells for _, cells in table), strict=True)
    ]
    return (
        f'<p id="{name}">{escape(explained)}</p>'
        f'<div class="wide" tabindex="0" role="region" aria-labelledby="{name}"><table aria-describedby="{name}">'
        f"<thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


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
