"""CSV and TSV: a header line, then one text a row."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlclf.datasets.dataset import Dataset
from mlclf.datasets.layout import Layout, collect, separated_labels
from mlclf.datasets.lines import existing_file, read_lines
from mlclf.exceptions import DataFileError, OptionsError

# Python's own limit of 128 KiB a cell is less than a long document.
_LONGEST_CELL = 2**31 - 1


def load_csv(
    path: str | os.PathLike[str],
    *,
    text_column: str = "text",
    label_column: str | None = "labels",
    indicator_columns: Sequence[str] | None = None,
    label_separator: str = ";",
    delimiter: str = ",",
) -> Dataset:
    r"""Read a CSV file with a header line, gzipped where its name ends with ``.gz``.

    Parameters
    ----------
    path : path
        A UTF-8 file.
    text_column : str
        Column of the texts.
    label_column : str or None
        Column of the label sets, such as ``"price; delivery"``; an empty cell is a text without labels.
        None reads texts only.
    indicator_columns : sequence of str or None
        Columns of 0 and 1, one for each label, instead of ``label_column``. An empty cell or -1 means not known.
    label_separator : str
        What stands between two labels in a cell.
    delimiter : str
        The character between two cells.

    Returns
    -------
    Dataset
        Labels are str.

    Raises
    ------
    DataFileError
        If the file is absent or empty, lacks a column, or a row has another number of cells than the header.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from mlclf.datasets import load_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "train.csv")
    ...     _ = file.write_text("text,price,praise\ncheap and good,1,1\nwho knows,,0\n")
    ...     load_csv(file, indicator_columns=["price", "praise"]).labels
    [{'price': True, 'praise': True}, {'price': None, 'praise': False}]
    """
    if len(delimiter) != 1:
        raise OptionsError(f"delimiter must be one character, got {delimiter!r}.")
    layout = Layout(text_column, label_column, indicator_columns)
    return read_table(existing_file(path), layout, label_separator, delimiter)


def read_table(path: Path, layout: Layout, label_separator: str, delimiter: str) -> Dataset:
    """Read a table by a layout; see :func:`load_csv`."""
    return collect(_rows(path, layout, delimiter), layout, separated_labels(label_separator))


def _rows(path: Path, layout: Layout, delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
    with _long_cells():
        try:
            header = [name.strip() for name in next(reader, [])]
            layout.check(header, str(path))
            for cells in reader:
                if cells:
                    yield _row(header, cells, f"{path}, line {reader.line_num}")
        except csv.Error as error:
            raise DataFileError(f"{path}, line {reader.line_num} is not CSV: {error}.") from error


def _row(header: list[str], cells: list[str], where: str) -> tuple[str, dict[str, str]]:
    if len(cells) != len(header):
        raise DataFileError(
            f"{where}: the row has {len(cells)} cells, the header has {len(header)}. "
            "Put cells that hold the delimiter or a line break in quotes."
        )
    return where, dict(zip(header, cells, strict=True))


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lift the csv module's limit, which is one for the whole process, while a file is read."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)
