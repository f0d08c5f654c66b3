"""Parquet: columns of texts and label lists."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlclf.datasets.dataset import Dataset
from mlclf.datasets.layout import Layout, collect, label_collection
from mlclf.datasets.lines import existing_file
from mlclf.exceptions import DataFileError, MissingExtraError


def load_parquet(
    path: str | os.PathLike[str],
    *,
    text_column: str = "text",
    label_column: str | None = "labels",
    indicator_columns: Sequence[str] | None = None,
) -> Dataset:
    """Read a Parquet file; needs pyarrow, which ``mlclf[train]`` brings.

    Parameters
    ----------
    path : path
        A Parquet file. Only the columns named below are read.
    text_column : str
        Column of the texts.
    label_column : str or None
        Column of lists of str or int. None reads texts only.
    indicator_columns : sequence of str or None
        Columns of 0, 1 or null (not known), one for each label, instead of ``label_column``.

    Returns
    -------
    Dataset

    Raises
    ------
    DataFileError
        If the file is absent, damaged or lacks a column, or a cell has the wrong type.
    MissingExtraError
        If pyarrow is not installed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import pandas as pd
    >>> from mlclf.datasets import load_parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "train.parquet")
    ...     pd.DataFrame({"text": ["late again"], "labels": [["delivery"]]}).to_parquet(file)
    ...     load_parquet(file).labels
    [('delivery',)]
    """
    layout = Layout(text_column, label_column, indicator_columns)
    return read_parquet(existing_file(path), layout)


def read_parquet(path: Path, layout: Layout) -> Dataset:
    """Read a Parquet file by a layout; see :func:`load_parquet`."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "Reading Parquet needs 'pyarrow', which is not installed. Install it with: pip install 'mlclf[train]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            layout.check(file.schema_arrow.names, str(path))
            return collect(_rows(file, path, layout), layout, label_collection)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataFileError(f"{path} cannot be read as Parquet: {error}") from error


def _rows(file: Any, path: Path, layout: Layout) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows; numbers count from 0, as in a data frame."""
    number = 0
    for batch in file.iter_batches(columns=list(layout.columns)):
        for row in batch.to_pylist():
            yield f"{path}, row {number}", row
            number += 1
