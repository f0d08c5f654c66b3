"""The page: its sections, and what it says where a report does not hold what a section shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlclf._version import __version__
from mlclf.charts.document import document, rows_of_cells, scrolled, shown
from mlclf.report_page.errors import errors_section
from mlclf.report_page.label_table import SCRIPT, label_section
from mlclf.report_page.overlap import overlap_section
from mlclf.report_page.plots import calibration_section, curves_section
from mlclf.report_text import figure, heading, ranking_figures, report_notes, summary_rows

if TYPE_CHECKING:
    from mlclf.report import Report

_STYLE = """
a { color: var(--c0); }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; list-style: none; }
.cards li { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .9rem; min-width: 8.5rem; }
.cards b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .9rem; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
#filter { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line); padding: .3rem .5rem;
  width: min(100%, 20rem); margin-bottom: .5rem; }
.tall { max-height: 34rem; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; background: var(--back); box-shadow: inset 0 -1px var(--line); }
polyline { fill: none; stroke-width: 2.5; }
.s0 { stroke: var(--c0); stroke-dasharray: 9 4; } .s1 { stroke: var(--c1); stroke-dasharray: 3 4; }
.s2 { stroke: var(--c2); stroke-width: 3.5; } .line { stroke: var(--c0); }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); } .one { max-width: 32rem; }
.dot0 { fill: var(--c0); } .dot1 { fill: var(--c1); } .dot2 { fill: var(--c2); }
.chosen { stroke: var(--text); stroke-width: 1.5; }
.diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
.bar { fill: var(--line); }
.key { font-weight: 600; } svg .key0 { fill: var(--c0); } svg .key1 { fill: var(--c1); } svg .key2 { fill: var(--c2); }
figure h3 { font-size: 1rem; margin: .5rem 0 0; }
.name { overflow-wrap: anywhere; min-width: min(12rem, 32vw); }
.heat td { background: color-mix(in srgb, var(--c0) calc(var(--share, 0) * 45%), transparent); min-width: 2rem; }
.heat td, .heat th { padding: .3rem .25rem; }
.heat .own { color: var(--soft); }
.error { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .9rem; margin: .75rem 0; }
.error h3 { font-size: 1rem; margin: 0 0 .3rem; } .error pre { margin-bottom: .4rem; }
.error ul { margin: 0; padding-left: 1.2rem; }
.missing { color: var(--soft); border-left: .2rem solid var(--line); padding-left: .7rem; }
summary { cursor: pointer; }
"""


def page(report: Report) -> str:
    """Return the page; every text that comes from outside is escaped.

    Parameters
    ----------
    report : Report
        Sections for which it holds no details say how to keep them.
    """
    body = [
        "<h1>Report of a multi-label classifier</h1>",
        f"<p>{shown(heading(report))}. mlclf {shown(__version__)}.</p>",
        _cards(report),
        *(f"<p>{shown(note)}</p>" for note in report_notes(report)),
        "<h2>Averages</h2>",
        _averages(report),
        *label_section(report),
        *_detailed(report),
    ]
    return document("mlclf report", body, style=_STYLE, script=SCRIPT)


def _cards(report: Report) -> str:
    """Return the figures that are asked for first."""
    figures = {
        "micro-F1": report.micro_f1,
        "macro-F1": report.macro_f1,
        "samples-F1": report.samples_f1,
        "mean average precision": report.mean_average_precision,
        "subset accuracy": report.subset_accuracy,
        "Hamming loss": report.hamming_loss,
    }
    items = (f"<li><b>{figure(value)}</b><span>{name}</span></li>" for name, value in figures.items())
    return f'<ul class="cards">{"".join(items)}</ul>'


def _averages(report: Report) -> str:
    parts = ("precision", "recall", "F1")
    names = ["", *(f"{part}, tuned" for part in parts), *(f"{part} at 0.5" for part in parts)]
    table = scrolled(
        "averages",
        "“Tuned”: at the model's own thresholds. A figure of whole rows stands in the columns of F1.",
        rows_of_cells(_heads(names), [_cells([name, *tuned, *half]) for name, tuned, half in summary_rows(report)]),
    )
    ranking = ranking_figures(report)
    without = scrolled(
        "ranking",
        "Ranking, without thresholds:",
        rows_of_cells(_heads(list(ranking)), [_cells(list(ranking.values()), "")]),
    )
    return table + without


def _heads(names: Sequence[str]) -> list[str]:
    return [f'<th scope="col">{shown(name)}</th>' for name in names]


def _cells(values: Sequence[str], first: str = ' class="name"') -> list[str]:
    return [f"<td{first if not i else ''}>{shown(value)}</td>" for i, value in enumerate(values)]


def _detailed(report: Report) -> list[str]:
    if report.details is None:
        return [
            "<h2>Curves, calibration, labels together, errors</h2>",
            '<p class="missing">This report holds figures only, as <code>mlclf.metrics.score</code> makes it. '
            "<code>clf.evaluate(X, Y)</code> keeps what these sections show; for probabilities from elsewhere, "
            "<code>mlclf.report_details.make_details</code> computes it.</p>",
        ]
    return [
        *curves_section(report, report.details),
        *calibration_section(report, report.details.reliability),
        *overlap_section(report, report.details.overlap),
        *errors_section(report, report.details.errors),
    ]
