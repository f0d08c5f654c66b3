"""Which columns of a file hold texts and labels, and what their cells mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlclf.datasets.dataset import Dataset, LabelRow, occurring
from mlclf.exceptions import DataFileError, OptionsError
from mlclf.label_names import Label, is_label_type

# Cells of an indicator column. 1 and True are equal and hash alike, as do 1.0 and -1.0 and their twins.
_STATES: dict[Any, bool | None] = {
    **{1: True, 0: False, -1: None, None: None},
    **{"1": True, "0": False, "-1": None, "": None, "1.0": True, "0.0": False, "true": True, "false": False},
}


@dataclass(frozen=True)
class Layout:
    """Which columns of a file hold texts and labels.

    Parameters
    ----------
    text_column : str
        Column of the texts.
    label_column : str or None
        Column of the label sets; None reads texts only.
    indicator_columns : sequence of str or None
        Columns of 0 and 1, one for each label, instead of ``label_column``; their names are the labels. An empty
        cell or -1 means that it is not known whether the label applies.

    Raises
    ------
    OptionsError
        If ``indicator_columns`` is empty or a single str.
    """

    text_column: str = "text"
    label_column: str | None = "labels"
    indicator_columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.indicator_columns, str):
            raise OptionsError(f"indicator_columns must be a sequence of str, got {self.indicator_columns!r}.")
        if self.indicator_columns is not None:
            object.__setattr__(self, "indicator_columns", tuple(self.indicator_columns))
            if not self.indicator_columns:
                raise OptionsError("indicator_columns is empty. Name at least one column, or leave it out.")

    @property
    def has_labels(self) -> bool:
        """Whether labels are read."""
        return self.indicator_columns is not None or self.label_column is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read."""
        if self.indicator_columns is not None:
            return (self.text_column, *self.indicator_columns)
        return (self.text_column,) if self.label_column is None else (self.text_column, self.label_column)

    def check(self, present: Iterable[str], where: str) -> None:
        """Refuse a file or row without one of the columns.

        Raises
        ------
        DataFileError
            Naming the column that is missing and those that are there.
        """
        names = list(present)
        missing = [column for column in self.columns if column not in names]
        if not missing:
            return
        there = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        raise DataFileError(
            f"{where}: there is no column {missing[0]!r}. It has: {there or 'no columns'}. {self._way_out(missing[0])}"
        )

    def _way_out(self, missing: str) -> str:
        if missing == self.text_column:
            return "Name the column of the texts with text_column."
        if self.indicator_columns is not None:
            return "Correct indicator_columns."
        return "Name the column of the labels with label_column; None reads texts without labels."


LabelCell = Callable[[Any, str], LabelRow]
"""Turns the cell of a label column into a label set; the second argument says where the cell stands."""


def collect(rows: Iterable[tuple[str, Mapping[str, Any]]], layout: Layout, label_cell: LabelCell) -> Dataset:
    """Make a data set of the rows of a file.

    Parameters
    ----------
    rows : iterable of (str, mapping)
        Where each row stands ("train.csv, line 3") and its cells by column, checked to be there.
    layout : Layout
    label_cell : callable
        How the format writes a label set.

    Returns
    -------
    Dataset

    Raises
    ------
    DataFileError
        If a cell has the wrong form.
    """
    texts: list[str] = []
    labels: list[LabelRow] = []
    for where, row in rows:
        texts.append(_text(row[layout.text_column], layout.text_column, where))
        if layout.indicator_columns is not None:
            labels.append({name: _state(row[name], name, where) for name in layout.indicator_columns})
        elif layout.label_column is not None:
            labels.append(label_cell(row[layout.label_column], f"{where}, column {layout.label_column!r}"))
    if not layout.has_labels:
        return Dataset(texts, None, ())
    labels = _uniform(labels)
    classes = tuple(layout.indicator_columns) if layout.indicator_columns is not None else occurring(labels)
    return Dataset(texts, labels, classes)


def label_collection(cell: Any, where: str) -> LabelRow:
    """Return a label set written as a list of names, or as an object of name and true, false or null.

    Raises
    ------
    DataFileError
        If it is anything else.
    """
    if isinstance(cell, Mapping):
        return {_label(name, where): _state(state, name, where) for name, state in cell.items()}
    if isinstance(cell, Sequence) and not isinstance(cell, (str, bytes)):
        return tuple(_label(label, where) for label in cell)
    if isinstance(cell, str):
        hint = f"Write [{cell!r}]."
    elif cell is None:
        hint = "Write [] for a text without labels."
    else:
        hint = "Write a list."
    raise DataFileError(f"{where}: labels must be a list of str or int, got {_short(cell)}. {hint}")


def separated_labels(separator: str) -> LabelCell:
    """Return a reader of cells such as ``"price; delivery"``; an empty cell is an empty label set.

    Raises
    ------
    OptionsError
        If the separator is empty.
    """
    if not separator:
        raise OptionsError("label_separator is empty. Give what stands between two labels, such as ';'.")
    return lambda cell, where: tuple(name for part in cell.split(separator) if (name := part.strip()))


def _uniform(labels: list[LabelRow]) -> list[LabelRow]:
    """Write all rows in one form: label sets where every cell is known, else dictionaries."""
    maps = [row for row in labels if isinstance(row, dict)]
    if not maps:
        return labels
    if all(state is not None for row in maps for state in row.values()):
        return [tuple(k for k, on in row.items() if on) if isinstance(row, dict) else row for row in labels]
    return [row if isinstance(row, dict) else dict.fromkeys(row, True) for row in labels]


def _text(cell: Any, column: str, where: str) -> str:
    if isinstance(cell, str):
        return cell
    hint = 'Write "" for an empty text.' if cell is None else "Put it in quotes."
    raise DataFileError(f"{where}, column {column!r}: a text must be a str, got {_short(cell)}. {hint}")


def _label(value: Any, where: str) -> Label:
    if is_label_type(type(value)) and value != "":
        label: Label = value
        return label
    raise DataFileError(f"{where}: a label must be an int or a str that is not empty, got {_short(value)}.")


def _state(cell: Any, column: Any, where: str) -> bool | None:
    key = cell.strip().lower() if isinstance(cell, str) else cell
    if isinstance(key, float) and math.isnan(key):
        return None
    try:
        return _STATES[key]
    except (KeyError, TypeError):
        raise DataFileError(
            f"{where}: label {column!r} must be 1 (applies), 0, or empty (not known), got {_short(cell)}."
        ) from None


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
