"""Reading Y where each row names its labels: lists, tuples, sets, one-dimensional arrays, dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.label_names import is_label_type

_ROW_TYPES = (list, tuple, set, frozenset, np.ndarray)
# What a dictionary may say of a label; 0, 1 and -1 are equal to and hash like their bool and float twins.
_STATES = {1: 1, 0: 0, -1: -1, None: -1}
_ILLEGAL = 2


@dataclass(frozen=True)
class LabelRows:
    """Label names of all rows, one row after the other.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_samples,)
        Entries of each row.
    labels : list of str or int, length n_entries
        The label of each entry, as it was given.
    states : ndarray of int8, shape (n_entries,), or None
        1 where the label applies, 0 where not, -1 where it is not known; None where all apply.
    width : int or None
        Entries of every row where all rows are ordered, equally long and hold nothing but 0, 1 and -1, so that they
        may be meant as rows of an indicator matrix; otherwise None.
    """

    counts: NDArray[np.int64]
    labels: list[Any]
    states: NDArray[np.int8] | None = None
    width: int | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def owners(self) -> NDArray[np.int64]:
        """Row of each entry, shape (n_entries,)."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int64), self.counts)


def read_rows(rows: Sequence[Any]) -> LabelRows:
    """Read label lists, tuples, sets, one-dimensional arrays or dictionaries.

    Parameters
    ----------
    rows : sequence
        One collection of labels for each sample; or for each sample a dictionary of label and True (applies), False
        (does not) or None (not known).

    Returns
    -------
    LabelRows

    Raises
    ------
    InvalidInputError
        If a row is no collection of labels, or an entry is no label.
    """
    kinds = set(map(type, rows))
    if all(issubclass(kind, dict) for kind in kinds):
        return _read_dicts(rows)
    for kind in kinds:
        if not issubclass(kind, _ROW_TYPES):
            _refuse_row(rows, kind)
    if any(issubclass(kind, np.ndarray) for kind in kinds):
        rows = _without_arrays(rows)
    flat = list(chain.from_iterable(rows))
    counts = _lengths(rows)
    _check_entries(flat, counts)
    ordered = not any(issubclass(kind, (set, frozenset)) for kind in kinds)
    return LabelRows(counts, flat, width=_indicator_width(flat, counts) if ordered else None)


def refuse_nested_indicator(read: LabelRows, n_labels: int | None) -> None:
    """Raise where rows look like those of an indicator matrix rather than lists of the labels 0 and 1.

    Parameters
    ----------
    read : LabelRows
    n_labels : int or None
        Columns that an indicator matrix would have; None where that is not known.
    """
    width = read.width
    if width is None:
        return
    starts = range(0, len(read.labels), width)
    repeats = any(len(set(read.labels[start : start + width])) < width for start in starts)
    if repeats or (width > 1 if n_labels is None else width == n_labels):
        raise InvalidInputError(
            f"Y is a nested list whose {len(read)} rows have {width} entries 0 or 1 each, which may mean an indicator "
            "matrix or the labels 0 and 1. Pass np.asarray(Y) for an indicator matrix, [set(row) for row in Y] for "
            "labels."
        )


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas' NA or NaT."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _read_dicts(rows: Sequence[dict[Any, Any]]) -> LabelRows:
    counts = _lengths(rows)
    flat = list(chain.from_iterable(rows))
    _check_entries(flat, counts)
    said = list(chain.from_iterable(row.values() for row in rows))
    if any(kind.__hash__ is None for kind in set(map(type, said))):
        said = [_ILLEGAL if type(value).__hash__ is None else value for value in said]
    states = np.fromiter(map(_STATES.get, said, repeat(_ILLEGAL)), dtype=np.int8, count=len(said))
    for entry in np.flatnonzero(states == _ILLEGAL).tolist():
        if not is_missing(said[entry]):
            _refuse_state(rows, flat[entry], _row_of(entry, counts))
        states[entry] = -1
    return LabelRows(counts, flat, states)


def _lengths(rows: Sequence[Any]) -> NDArray[np.int64]:
    return np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))


def _without_arrays(rows: Sequence[Any]) -> list[Any]:
    for number, row in enumerate(rows):
        if isinstance(row, np.ndarray) and row.ndim != 1:
            raise InvalidInputError(f"Row {number} of Y must be a 1-D array of labels, got shape {row.shape}.")
    return [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]


def _indicator_width(flat: list[Any], counts: NDArray[np.int64]) -> int | None:
    """Return the common length of rows that may be meant as rows of an indicator matrix."""
    width = int(counts[0])
    return width if width and (counts == width).all() and set(flat) <= {0, 1, -1} else None


def _row_of(entry: int, counts: NDArray[np.int64]) -> int:
    """Return the row that an entry belongs to."""
    return int(np.searchsorted(np.cumsum(counts), entry, side="right"))


def _check_entries(flat: list[Any], counts: NDArray[np.int64]) -> None:
    """Raise unless every entry can be a label."""
    for kind in set(map(type, flat)):
        if not is_label_type(kind):
            entry = next(place for place, label in enumerate(flat) if type(label) is kind)
            _refuse_entry(flat[entry], _row_of(entry, counts))
    if "" in flat:
        raise InvalidInputError(
            f"Row {_row_of(flat.index(''), counts)} of Y holds the empty label name ''. "
            "Write [] where no label applies (''.split(',') gives [''])."
        )


def _refuse_row(rows: Iterable[Any], kind: type) -> None:
    """Raise for the first row of a type that holds no labels, saying what to write instead."""
    number, row = next((number, row) for number, row in enumerate(rows) if type(row) is kind)
    if is_missing(row):
        raise InvalidInputError(
            f"Row {number} of Y is {row!r}. Write [] where no label applies; leave the row out where nothing is known."
        )
    if isinstance(row, (str, bytes, int, float, np.generic)):
        raise InvalidInputError(
            f"Row {number} of Y must be a collection of labels, got {row!r}: Y is a single-label column. "
            "Wrap each label in a list: [[label] for label in Y]."
        )
    if isinstance(row, dict):
        raise InvalidInputError(f"Row {number} of Y is a dict and others are not. Use one form for all rows.")
    raise InvalidInputError(
        f"Row {number} of Y must be a list, tuple or set of labels, got {kind.__name__}. "
        "Turn it into a list of label names."
    )


def _refuse_entry(value: Any, row: int) -> None:
    """Raise for an entry that is no label name, saying what was probably meant."""
    hint = "Convert it to str, or drop it."
    if isinstance(value, (bool, float, np.bool_, np.floating)) or value is None:
        hint = "For an indicator matrix pass np.asarray(Y, dtype=float)."
    raise InvalidInputError(
        f"Row {row} of Y holds {value!r} of type {type(value).__name__}; label names must be str or int. {hint}"
    )


def _refuse_state(rows: Sequence[dict[Any, Any]], label: Any, row: int) -> None:
    raise InvalidInputError(
        f"Row {row} of Y says {rows[row][label]!r} of label {label!r}; allowed are True (applies), False (does not) "
        "and None (not known)."
    )
