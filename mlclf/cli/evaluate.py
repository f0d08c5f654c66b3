"""``mlclf evaluate``: a saved model against labelled rows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mlclf.cli.options import (
    Device,
    IndicatorColumns,
    Json,
    LabelColumn,
    LabelSeparator,
    ModelArgument,
    TextColumn,
    Thresholds,
)
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.cli.thresholds import parse_thresholds
from mlclf.datasets import load


def evaluate(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Labelled rows: JSONL, CSV, TSV or Parquet.")],
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    indicator_columns: IndicatorColumns = None,
    thresholds: Thresholds = None,
    device: Device = None,
    as_json: Json = False,
    html: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the report as one HTML file, report.html for example."),
    ] = None,
    error_texts: Annotated[
        int, typer.Option(min=0, help="Texts of the most costly errors that stand in the HTML file.")
    ] = 20,
) -> None:
    """Compare a model's predictions with true labels."""
    with results_only() as results, messages_to_stderr(logging.WARNING):
        rows = load(
            data,
            text_column=text_column or "text",
            label_column=label_column or "labels",
            indicator_columns=indicator_columns or None,
            label_separator=label_separator or ";",
        )
        from mlclf import MultiLabelClassifier

        classifier = MultiLabelClassifier.load(model, device=device)
        if thresholds is not None:
            classifier.set_thresholds(parse_thresholds(thresholds, classifier.classes_.tolist()))
        report = classifier.evaluate(rows.texts, rows.labels, error_texts=0 if html is None else error_texts)
        if html is not None:
            report.to_html(html)
        if as_json:
            write_json(report.to_dict(), results)
        else:
            results.write(f"{report}\n")
