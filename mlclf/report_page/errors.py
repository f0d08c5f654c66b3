"""The most costly errors: what was said of a text, what applies, and the text itself where the report holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlclf.charts.document import shown
from mlclf.report_page.label_table import name_of

if TYPE_CHECKING:
    from mlclf.report import Report
    from mlclf.report_details import CostlyRow


def errors_section(report: Report, errors: Sequence[CostlyRow]) -> list[str]:
    """Return the rows in which wrong decisions cost most.

    Parameters
    ----------
    report : Report
    errors : sequence of CostlyRow
    """
    if not errors:
        return ["<h2>Most costly errors</h2>", "<p>Everything was decided rightly.</p>"]
    explained = (
        f"The {len(errors)} rows in which wrong decisions cost most: the sum of their logarithmic losses. Look here "
        "for labels that are wrong in the data, too."
    )
    without = (
        '<p class="missing">Texts are not shown, because this report does not hold any: '
        "<code>clf.evaluate(X, Y, error_texts=20)</code> keeps those of the 20 most costly rows.</p>"
    )
    return [
        "<h2>Most costly errors</h2>",
        f"<p>{shown(explained)}</p>",
        *([without] if all(row.text is None for row in errors) else []),
        *(_error(report, row) for row in errors),
    ]


def _error(report: Report, row: CostlyRow) -> str:
    text = "" if row.text is None else f'<pre dir="auto">{shown(row.text)}{" […]" if row.cut else ""}</pre>'
    true = ", ".join(name_of(report, column) for column in row.true) or "none"
    wrong = "".join(
        f"<li>{'missed' if label.applies else 'wrongly predicted'}: {name_of(report, label.column)} "
        f"(probability {label.probability:.3f}, threshold {report.thresholds[label.column]:.3f})</li>"
        for label in row.wrong
    )
    return (
        f'<section class="error"><h3>Row {row.row:,}, cost {row.cost:.2f}</h3>{text}'
        f"<div>True labels: {true}</div><ul>{wrong}</ul></section>"
    )
