"""JSON Lines: one object a line, ``{"text": "late again", "labels": ["delivery"]}``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlclf.datasets.dataset import Dataset
from mlclf.datasets.layout import Layout, collect, label_collection
from mlclf.datasets.lines import existing_file, read_lines
from mlclf.exceptions import DataFileError


def load_jsonl(
    path: str | os.PathLike[str],
    *,
    text_column: str = "text",
    label_column: str | None = "labels",
    indicator_columns: Sequence[str] | None = None,
) -> Dataset:
    """Read a JSON Lines file, gzipped where its name ends with ``.gz``.

    Parameters
    ----------
    path : path
        A UTF-8 file with one object a line; blank lines are skipped.
    text_column : str
        Key of the texts.
    label_column : str or None
        Key of the label sets: lists of str or int, or objects of label and true, false or null (not known).
        None reads texts only.
    indicator_columns : sequence of str or None
        Keys of 0, 1 or null, one for each label, instead of ``label_column``.

    Returns
    -------
    Dataset

    Raises
    ------
    DataFileError
        If the file is absent or empty, or a line is not such an object.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from mlclf.datasets import load_jsonl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "train.jsonl")
    ...     _ = file.write_text('{"text": "late again", "labels": ["delivery", "complaint"]}')
    ...     load_jsonl(file).classes
    ('complaint', 'delivery')
    """
    layout = Layout(text_column, label_column, indicator_columns)
    return read_jsonl(existing_file(path), layout)


def read_jsonl(path: Path, layout: Layout) -> Dataset:
    """Read a JSON Lines file by a layout; see :func:`load_jsonl`."""
    return collect(_rows(path, layout), layout, label_collection)


def _rows(path: Path, layout: Layout) -> Iterator[tuple[str, dict[str, Any]]]:
    found = False
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        found = True
        where = f"{path}, line {number}"
        row = _object(line, where)
        layout.check(row, where)
        yield where, row
    if not found:
        raise DataFileError(f"{path} holds blank lines only.")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        hint = " A JSON Lines file has one whole object a line." if line.strip() in ("[", "{") else ""
        raise DataFileError(f"{where} is not JSON: {error.msg} at character {error.pos + 1}.{hint}") from error
    except RecursionError as error:
        raise DataFileError(f"{where} is nested too deeply.") from error
    if not isinstance(row, dict):
        raise DataFileError(
            f'{where}: expected an object such as {{"text": ..., "labels": [...]}}, got {type(row).__name__}.'
        )
    return row
