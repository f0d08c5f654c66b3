"""One reader for all formats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mlclf.datasets.dataset import Dataset
from mlclf.datasets.jsonl import read_jsonl
from mlclf.datasets.layout import Layout
from mlclf.datasets.lines import existing_file
from mlclf.datasets.parquet import read_parquet
from mlclf.datasets.table import read_table
from mlclf.exceptions import DataFileError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def load(
    path: str | os.PathLike[str],
    *,
    text_column: str = "text",
    label_column: str | None = "labels",
    indicator_columns: Sequence[str] | None = None,
    label_separator: str = ";",
) -> Dataset:
    r"""Read a file in the format that its name says.

    Parameters
    ----------
    path : path
        ``.jsonl``, ``.ndjson``, ``.csv`` or ``.tsv``, each also with ``.gz`` behind it, or ``.parquet``.
    text_column : str
        Column of the texts.
    label_column : str or None
        Column of the label sets; None reads texts only.
    indicator_columns : sequence of str or None
        Columns of 0 and 1, one for each label, instead of ``label_column``. An empty cell, null or -1 means not known.
    label_separator : str
        What stands between two labels in a cell of CSV or TSV.

    Returns
    -------
    Dataset

    Raises
    ------
    DataFileError
        If the name has another ending or the file cannot be read as texts and labels.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from mlclf.datasets import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "train.csv")
    ...     _ = file.write_text("text,labels\nlate again,delivery; complaint\nhello,\n")
    ...     load(file).labels
    [('delivery', 'complaint'), ()]
    """
    layout = Layout(text_column, label_column, indicator_columns)
    suffix = _suffix(Path(path))
    file = existing_file(path)
    if suffix == ".parquet":
        return read_parquet(file, layout)
    if suffix in _DELIMITERS:
        return read_table(file, layout, label_separator, _DELIMITERS[suffix])
    return read_jsonl(file, layout)


def _suffix(path: Path) -> str:
    """Return the ending that says the format."""
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix == ".parquet" and name != path.name.lower():
        raise DataFileError(f"{path}: Parquet is compressed inside. Unpack the file first.")
    if suffix not in (".jsonl", ".ndjson", ".parquet", *_DELIMITERS):
        raise DataFileError(
            f"{path}: the ending says no format that can be read. Name the file .jsonl, .csv, .tsv (each also with "
            ".gz behind it) or .parquet."
        )
    return suffix
