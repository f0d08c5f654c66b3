"""Texts in, rows out: what ``mlclf predict`` and ``mlclf zero-shot`` have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from mlclf.cli.thresholds import parse_thresholds
from mlclf.datasets import json_line, load
from mlclf.datasets.lines import decode_lines
from mlclf.exceptions import DataFileError, OptionsError

if TYPE_CHECKING:
    from mlclf.classifier import MultiLabelClassifier

# Texts predicted at once: enough to sort by length, few enough that rows come out soon and probabilities of many
# labels stay small.
_CHUNK = 4096
_MOST_PROBABLE = 5


class Format(StrEnum):
    """What is written for a text."""

    labels = "labels"
    proba = "proba"
    topk = "topk"


Predictor: TypeAlias = Callable[[list[str]], list[dict[str, Any]]]
"""Turns some texts into what is written for them."""


def read_texts(data: str, text_column: str | None) -> list[str]:
    """Read texts from a file, or a text a line from standard input.

    Parameters
    ----------
    data : str
        Path of a file; ``-`` stands for standard input.
    text_column : str or None
        Column of the texts; None is ``text``.

    Raises
    ------
    DataFileError
        If the file cannot be read as texts, or standard input is empty.
    """
    if data == "-":
        return _standard_input()
    return load(data, text_column=text_column or "text", label_column=None).texts


def check_top_k(form: Format, top_k: int | None) -> None:
    """Refuse a number of labels where all are written.

    Raises
    ------
    OptionsError
    """
    if form is Format.proba and top_k is not None:
        raise OptionsError(
            f"--top-k {top_k} has no effect with --format proba, which writes all labels. Use --format topk."
        )


def make_predictor(
    classifier: MultiLabelClassifier, form: Format, top_k: int | None, thresholds: str | None
) -> Predictor:
    """Return what turns some texts into what is written for them.

    Parameters
    ----------
    classifier : MultiLabelClassifier
        Fitted.
    form : Format
    top_k : int or None
        Most labels of a text. Of those that apply, or, with ``Format.topk``, of all; None is no limit there, and five
        here.
    thresholds : str or None
        As ``--thresholds`` takes them; None for the fitted ones.
    """
    names = classifier.classes_.tolist()
    if form is Format.proba:
        return lambda texts: [
            {"probabilities": dict(zip(names, _rounded(row), strict=True))} for row in classifier.predict_proba(texts)
        ]
    if form is Format.topk:
        k = min(top_k or _MOST_PROBABLE, len(names))
        return lambda texts: [
            {"top": [{"label": names[i], "probability": p} for i, p in zip(columns, _rounded(row), strict=True)]}
            for columns, row in zip(*classifier.predict_topk(texts, k), strict=True)
        ]
    chosen = None if thresholds is None else parse_thresholds(thresholds, names)
    return lambda texts: [
        {"labels": list(row)} for row in classifier.predict_labels(texts, top_k=top_k, thresholds=chosen)
    ]


def predicted_rows(texts: list[str], predictor: Predictor, *, with_text: bool) -> Iterator[dict[str, Any]]:
    """Yield a JSON-ready object for each text, in the order of the texts."""
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for text, row in zip(chunk, predictor(chunk), strict=True):
            yield {"text": text, **row} if with_text else row


def stream(rows: Iterator[dict[str, Any]], file: IO[str]) -> None:
    """Write rows as JSON Lines while they come."""
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
