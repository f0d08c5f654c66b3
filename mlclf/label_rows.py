"""Reading Y where each row names its labels: lists, tuples, sets, one-dimensional arrays, dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError

Label: TypeAlias = str | int
"""A label's name: text, or a whole number."""

_ROW_TYPES = (list, tuple, set, frozenset, np.ndarray)


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
        1 where the label applies, 0 where not, -1 where nobody knows; None where all apply.
    width : int or None
        Entries of every row where all rows are ordered, equally long and hold nothing but 0 and 1, so that they may
        be meant as rows of an indicator matrix; otherwise None.
    """

    counts: NDArray[np.int64]
    labels: list[Any]
    states: NDArray[np.int8] | None = None
    width: int | None = None

    @property
    def owners(self) -> NDArray[np.int64]:
        """Row of each entry, shape (n_entries,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def as_label(value: Any) -> Label:
    """Return a label as a plain ``str`` or ``int``, whatever subclass or NumPy type it came in."""
    # str(value) would give "Mood.JOY" for a member of a str enumeration.
    return str.__str__(value) if isinstance(value, str) else int(value)


def is_label_type(kind: type) -> bool:
    """Return whether values of a type can be label names."""
    return issubclass(kind, (str, int, np.integer)) and not issubclass(kind, bool)


def read_rows(rows: Sequence[Any]) -> LabelRows:
    """Read label lists, tuples, sets, one-dimensional arrays or dictionaries.

    Parameters
    ----------
    rows : sequence
        One collection of labels for each sample; or for each sample a dictionary of label and True, False or None.

    Returns
    -------
    LabelRows

    Raises
    ------
    InvalidInputError
        If a row is no collection of labels, or an entry is no label.
    """
    kinds = set(map(type, rows))
    if kinds and all(issubclass(kind, dict) for kind in kinds):
        return _read_dicts(rows)
    for kind in kinds:
        if not issubclass(kind, _ROW_TYPES):
            _refuse_row(rows, kind)
    flat = list(chain.from_iterable(row.tolist() if isinstance(row, np.ndarray) else row for row in rows)
                if any(issubclass(kind, np.ndarray) for kind in kinds) else chain.from_iterable(rows))
    counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    _check_entries(flat, counts)
    return LabelRows(counts, flat, width=_indicator_width(kinds, flat, counts))


def _read_dicts(rows: Sequence[dict[Any, Any]]) -> LabelRows:
    counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    flat = list(chain.from_iterable(rows))
    _check_entries(flat, counts)
    states = np.fromiter(map(_state, chain.from_iterable(row.values() for row in rows)), dtype=np.int8, count=len(flat))
    if (states == 2).any():
        entry = int(np.argmax(states == 2))
        row = _row_of(entry, counts)
        raise InvalidInputError(
            f"Row {row} of Y says {rows[row][flat[entry]]!r} of label {flat[entry]!r}; allowed are True (applies), "
            "False (does not) and None (not known). Leave a label out where it does not apply."
        )
    return LabelRows(counts, flat, states)


def _state(value: Any) -> int:
    """Return 1, 0 or -1 (not known) for a dictionary's value; 2 where it is none of those."""
    if value is None or value != value:
        return -1
    if isinstance(value, (bool, int, float, np.bool_, np.number)) and value in (0, 1, -1):
        return int(value)
    return 2


def _refuse_row(rows: Sequence[Any], kind: type) -> None:
    """Raise for the first row of a type that holds no labels, saying what to write instead."""
    number = next(i for i, row in enumerate(rows) if type(row) is kind)
    row = rows[number]
    if row is None or row != row:
        raise InvalidInputError(
            f"Row {number} of Y is {row!r}. Write [] where no label applies; leave the row out where nothing is known."
        )
    if isinstance(row, (str, bytes, bool, int, float, np.generic)):
        raise InvalidInputError(
            f"Row {number} of Y must be a collection of labels, got {row!r}: one label a row is a single-label "
            "column. Wrap each in a list: [[label] for label in Y]."
        )
    if isinstance(row, dict):
        raise InvalidInputError(f"Row {number} of Y is a dict and others are not. Use one form for all rows.")
    raise InvalidInputError(
        f"Row {number} of Y must be a list, tuple or set of labels, got {type(row).__name__}. "
        "Turn it into a list of label names."
    )


def _check_entries(flat: list[Any], counts: NDArray[np.int64]) -> None:
    """Raise unless every entry can be a label."""
    for kind in set(map(type, flat)):
        if not is_label_type(kind):
            _refuse_entry(flat, counts, kind)
    if "" in flat:
        raise InvalidInputError(
            f"Row {_row_of(flat.index(''), counts)} of Y holds an empty label name ''. "
            "Write [] where no label applies (note that ''.split(',') gives [''])."
        )


def _refuse_entry(flat: list[Any], counts: NDArray[np.int64], kind: type) -> None:
    entry = next(i for i, label in enumerate(flat) if type(label) is kind)
    value, row = flat[entry], _row_of(entry, counts)
    if isinstance(value, (bool, float, np.bool_, np.floating)):
        raise InvalidInputError(
            f"Row {row} of Y holds {value!r}, which is no label name (str or int). For an indicator matrix pass "
            "np.asarray(Y); for labels pass their names."
        )
    raise InvalidInputError(
        f"Row {row} of Y holds {value!r} of type {kind.__name__}; label names must be str or int. "
        "Convert each to str, or drop it."
    )


def _row_of(entry: int, counts: NDArray[np.int64]) -> int:
    """Return the row that an entry belongs to."""
    return int(np.searchsorted(np.cumsum(counts), entry, side="right"))


def _indicator_width(kinds: Iterable[type], flat: list[Any], counts: NDArray[np.int64]) -> int | None:
    """Return the common length of rows that may be meant as rows of an indicator matrix."""
    if not len(counts) or any(issubclass(kind, (set, frozenset)) for kind in kinds):
        return None
    width = int(counts[0])
    if width == 0 or (counts != width).any() or not set(flat) <= {0, 1}:
        return None
    return width
