"""``mlclf predict``: labels for texts from a file or from standard input, as JSON Lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from mlclf.cli.options import Device, ModelArgument, TextColumn, Thresholds
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.cli.thresholds import parse_thresholds
from mlclf.datasets import json_line, load, write_jsonl
from mlclf.datasets.lines import decode_lines
from mlclf.exceptions import DataFileError

if TYPE_CHECKING:
    from mlclf.classifier import MultiLabelClassifier

# Texts predicted at once: enough to sort by length, few enough that rows come out soon and probabilities of many
# labels stay small.
_CHUNK = 4096


class Format(StrEnum):
    """What is written for a text."""

    labels = "labels"
    proba = "proba"
    topk = "topk"


def predict(
    model: ModelArgument,
    data: Annotated[str, typer.Argument(metavar="DATA|-", help="JSONL, CSV, TSV or Parquet; - reads a text a line.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write (.jsonl, .jsonl.gz), instead of standard output.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What is written for a text.")] = Format.labels,
    top_k: Annotated[int, typer.Option(min=1, help="Labels a text with --format topk.")] = 5,
    text_column: TextColumn = None,
    thresholds: Thresholds = None,
    with_text: Annotated[bool, typer.Option("--text/--no-text", help="Whether each row repeats its text.")] = True,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --out: print a summary as JSON.")] = False,
) -> None:
    """Predict labels; one JSON object for each text, in the order of the texts."""
    with results_only() as results, messages_to_stderr(logging.WARNING):
        texts = (
            _standard_input() if data == "-" else load(data, text_column=text_column or "text", label_column=None).texts
        )
        from mlclf import MultiLabelClassifier

        classifier = MultiLabelClassifier.load(model, device=device)
        predictor = _predictor(classifier, form, top_k, thresholds)
        rows = _rows(texts, predictor, with_text=with_text)
        if out is None:
            _stream(rows, results)
            return
        summary = {"out": str(out), "n_samples": write_jsonl(rows, out)}
        if as_json:
            write_json(summary, results)
        else:
            results.write(f"Wrote {summary['n_samples']} rows to {out}.\n")


_Predictor = Callable[[list[str]], list[dict[str, Any]]]


def _predictor(classifier: MultiLabelClassifier, form: Format, top_k: int, thresholds: str | None) -> _Predictor:
    """Return what turns some texts into what is written for them."""
    names = classifier.classes_.tolist()
    if form is Format.proba:
        return lambda texts: [
            {"probabilities": dict(zip(names, _rounded(row), strict=True))} for row in classifier.predict_proba(texts)
        ]
    if form is Format.topk:
        k = min(top_k, len(names))
        return lambda texts: [
            {"top": [{"label": names[i], "probability": p} for i, p in zip(columns, _rounded(row), strict=True)]}
            for columns, row in zip(*classifier.predict_topk(texts, k), strict=True)
        ]
    chosen = None if thresholds is None else parse_thresholds(thresholds, names)
    return lambda texts: [{"labels": list(row)} for row in classifier.predict_labels(texts, thresholds=chosen)]


def _rows(texts: list[str], predictor: _Predictor, *, with_text: bool) -> Iterator[dict[str, Any]]:
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for text, row in zip(chunk, predictor(chunk), strict=True):
            yield {"text": text, **row} if with_text else row


def _stream(rows: Iterator[dict[str, Any]], file: IO[str]) -> None:
    for row in rows:
        file.write(json_line(row))
    file.flush()


def _rounded(probabilities: Any) -> list[float]:
    """Return probabilities with the digits that float32 has."""
    return [round(float(p), 7) for p in probabilities]


def _standard_input() -> list[str]:
    lines = [line.rstrip("\r\n") for line in decode_lines(sys.stdin.buffer, "standard input")]
    if not lines:
        raise DataFileError("Standard input is empty. Write one text a line, or name a file.")
    return lines
