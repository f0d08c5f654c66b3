"""``mlclf predict``: labels for texts from a file or from standard input, as JSON Lines."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from mlclf.cli.options import Device, ModelArgument, RowFormat, RowsFile, TextColumn, Thresholds, TopK, WithText
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.cli.predicting import Format, check_top_k, make_predictor, predicted_rows, read_texts, stream
from mlclf.datasets import write_jsonl


def predict(
    model: ModelArgument,
    data: Annotated[str, typer.Argument(metavar="DATA|-", help="JSONL, CSV, TSV or Parquet; - reads a text a line.")],
    out: RowsFile = None,
    form: RowFormat = Format.labels,
    top_k: TopK = None,
    text_column: TextColumn = None,
    thresholds: Thresholds = None,
    with_text: WithText = True,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --out: print a summary as JSON.")] = False,
) -> None:
    """Predict labels; one JSON object for each text, in the order of the texts."""
    with results_only() as results, messages_to_stderr(logging.WARNING):
        check_top_k(form, top_k)
        texts = read_texts(data, text_column)
        from mlclf import MultiLabelClassifier

        classifier = MultiLabelClassifier.load(model, device=device)
        predictor = make_predictor(classifier, form, top_k, thresholds)
        rows = predicted_rows(texts, predictor, with_text=with_text)
        if out is None:
            stream(rows, results)
            return
        summary = {"out": str(out), "n_samples": write_jsonl(rows, out)}
        if as_json:
            write_json(summary, results)
        else:
            results.write(f"Wrote {summary['n_samples']} rows to {out}.\n")
