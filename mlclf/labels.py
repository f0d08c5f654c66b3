"""LabelSpace: which label stands in which column."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError, UnknownLabelError
from mlclf.label_cells import Cells
from mlclf.label_forms import YFormat, read_labels, y_format
from mlclf.label_rows import Label, LabelRows, as_label, is_label_type
from mlclf.targets import Targets, check_trainable

__all__ = ["Label", "LabelSpace", "Targets", "YFormat", "check_trainable", "to_indicator", "y_format"]


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a model in column order.

    Parameters
    ----------
    names : tuple of str or int, length n_labels
        Label names; no two the same.

    Raises
    ------
    InvalidInputError
        If a name is neither str nor int, is empty, or occurs twice, or there is none.

    Examples
    --------
    >>> space = LabelSpace.infer([["joy"], [], ["fear", "anger"]])
    >>> space.names
    ('anger', 'fear', 'joy')
    >>> space.encode([["joy", "fear"]]).indicator.toarray().tolist()
    [[0, 1, 1]]
    >>> space.decode(space.encode([["joy", "fear"], []]).indicator)
    [('fear', 'joy'), ()]
    """

    names: tuple[Label, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _checked_names(self.names))

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.names)

    @classmethod
    def infer(cls, Y: Any, classes: Iterable[Label] | None = None) -> LabelSpace:
        """Find the labels of Y.

        Parameters
        ----------
        Y : label lists, array, DataFrame or sparse matrix
            Rows of label names (lists, tuples, sets, one-dimensional arrays; in a list, object array or Series);
            dictionaries of label and True, False or None; or a matrix of 0, 1 and, where not known, NaN or -1.
        classes : iterable of str or int, optional
            Labels in the column order wanted. Without it: the columns of a DataFrame, 0 to n_labels - 1 for an
            array, and for rows of names all that occur, sorted (whole numbers before text).

        Returns
        -------
        LabelSpace

        Raises
        ------
        InvalidInputError
            If Y has none of the forms, or no label occurs in it and ``classes`` is not given.
        """
        if classes is not None:
            return cls(tuple(_listed(classes)))
        read = read_labels(Y)
        if isinstance(read, Cells):
            return cls(read.names if read.names is not None else tuple(range(read.indicator.shape[1])))
        _check_not_nested(read, None)
        if not read.labels:
            raise InvalidInputError(
                f"No label occurs in the {len(read.counts)} rows of Y. Pass classes= to name the labels that may occur."
            )
        return cls(tuple(sorted(map(as_label, set(read.labels)), key=_sort_key)))

    def encode(
        self, Y: Any, *, unknown_labels: Literal["error", "warn"] = "error", n_samples: int | None = None
    ) -> Targets:
        """Turn Y into targets with this label space's columns.

        Parameters
        ----------
        Y : label lists, array, DataFrame or sparse matrix
            Any form of :meth:`infer`. A DataFrame's columns are matched by name, in any order; the columns of an
            array or sparse matrix must be this label space's. In a dictionary, True means that the label applies,
            None that it is not known; False, or leaving it out, that it does not apply.
        unknown_labels : {"error", "warn"}
            Whether labels that the label space lacks are an error, or are left out with a warning and counted in
            ``Targets.dropped``.
        n_samples : int, optional
            Number of rows that Y must have.

        Returns
        -------
        Targets

        Raises
        ------
        UnknownLabelError
            If a label is not part of the label space.
        InvalidInputError
            If Y has none of the forms, or not ``n_samples`` rows.
        """
        read = read_labels(Y)
        length = read.indicator.shape[0] if isinstance(read, Cells) else len(read.counts)
        if n_samples is not None and length != n_samples:
            raise InvalidInputError(
                f"X and Y must have as many rows as each other, got {n_samples} texts and {length} rows of labels."
            )
        encode = self._encode_cells if isinstance(read, Cells) else self._encode_rows
        return encode(read, unknown_labels)  # type: ignore[operator]

    def decode(self, indicator: Any) -> list[tuple[Label, ...]]:
        """Return the names of the labels that apply.

        Parameters
        ----------
        indicator : ndarray or sparse matrix, shape (n_samples, n_labels)
            Nonzero where the label applies.

        Returns
        -------
        list of tuple of str or int, length n_samples
            In column order.
        """
        if indicator.shape[1] != self.n_labels:
            raise InvalidInputError(
                f"indicator must have {self.n_labels} columns, one for each label, got {indicator.shape[1]}."
            )
        rows, columns = indicator.nonzero()
        order = np.lexsort((columns, rows))
        names = [self.names[column] for column in columns[order].tolist()]
        ends = np.cumsum(np.bincount(rows, minlength=indicator.shape[0])).tolist()
        return [tuple(names[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def column(self, label: Label) -> int:
        """Return the column of a label.

        Raises
        ------
        UnknownLabelError
            If the label is not part of the label space; the message names the closest one.
        """
        found = self._columns.get(label)
        if found is None:
            raise UnknownLabelError(f"Label {label!r} is not known. {self._hint(label)}")
        return found

    @cached_property
    def _columns(self) -> dict[Label, int]:
        return {name: column for column, name in enumerate(self.names)}

    def _encode_rows(self, read: LabelRows, unknown_labels: str) -> Targets:
        _check_not_nested(read, self.n_labels)
        columns = np.fromiter(map(self._columns.get, read.labels, repeat(-1)), np.int64, count=len(read.labels))  # type: ignore[arg-type]
        shape, owners = (len(read.counts), self.n_labels), read.owners
        states = np.ones(len(columns), dtype=np.int8) if read.states is None else read.states
        dropped = self._drop_rows(read, owners, columns, unknown_labels)
        known = columns >= 0
        positive, gaps = known & (states == 1), known & (states == -1)
        unknown = _csr(owners[gaps], columns[gaps], shape, np.bool_) if gaps.any() else None
        return Targets(_csr(owners[positive], columns[positive], shape, np.int8), unknown, dropped)

    def _drop_rows(
        self, read: LabelRows, owners: NDArray[np.int64], columns: NDArray[np.int64], unknown_labels: str
    ) -> NDArray[np.int64] | None:
        foreign = np.flatnonzero(columns < 0)
        if not len(foreign):
            return None
        if unknown_labels == "error":
            entry = int(foreign[0])
            self._refuse(read.labels[entry], f"in row {owners[entry]} of Y")
        if read.states is not None:
            foreign = foreign[read.states[foreign] == 1]
        pairs = {(int(owners[entry]), read.labels[entry]) for entry in foreign}
        _warn_dropped([label for _, label in pairs])
        return np.bincount([row for row, _ in pairs], minlength=len(read.counts)).astype(np.int64)

    def _encode_cells(self, read: Cells, unknown_labels: str) -> Targets:
        if read.names is not None:
            return self._encode_named(read, read.names, unknown_labels)
        if read.indicator.shape[1] != self.n_labels:
            raise InvalidInputError(
                f"Y must have {self.n_labels} columns, one for each label in classes, got {read.indicator.shape[1]}."
            )
        return Targets(read.indicator, read.unknown)

    def _encode_named(self, read: Cells, names: tuple[Label, ...], unknown_labels: str) -> Targets:
        LabelSpace(names)
        missing = [name for name in self.names if name not in set(names)]
        foreign = [column for column, name in enumerate(names) if name not in self._columns]
        if foreign and unknown_labels == "error":
            self._refuse(names[foreign[0]], "a column of Y")
        if missing:
            raise InvalidInputError(
                f"Y lacks {len(missing)} columns, first {missing[0]!r}. Add them: 0 where the label does not apply, "
                "NaN or -1 where nobody knows."
            )
        order = [names.index(name) for name in self.names]
        dropped = None
        if foreign:
            counts = read.indicator[:, foreign]
            _warn_dropped([names[foreign[column]] for column in counts.indices.tolist()])
            dropped = np.asarray(np.diff(counts.indptr), dtype=np.int64)
        return Targets(
            _columns_of(read.indicator, order), None if read.unknown is None else _columns_of(read.unknown, order), dropped
        )

    def _refuse(self, label: Any, where: str) -> None:
        raise UnknownLabelError(f"Label {label!r} ({where}) is not known. {self._hint(label)}")

    def _hint(self, label: Any) -> str:
        by_text = {str(name): name for name in self.names}
        close = difflib.get_close_matches(str(label), by_text, n=1)
        if close:
            return f"The closest of the {self.n_labels} known labels is {by_text[close[0]]!r}."
        return f"The {self.n_labels} known labels begin with {', '.join(map(repr, self.names[:5]))}."


def to_indicator(labels: Any, classes: Iterable[Label] | None = None) -> Any:
    """Turn any form of Y into an indicator matrix that scikit-learn understands.

    This is the way into ``GridSearchCV`` and ``cross_val_score``, which refuse or misread label lists.

    Parameters
    ----------
    labels : label lists, array, DataFrame or sparse matrix
        Any form of :meth:`LabelSpace.infer`.
    classes : iterable of str or int, optional
        Labels in the column order wanted.

    Returns
    -------
    DataFrame of int8, shape (n_samples, n_labels)
        1 where the label applies, -1 where it is not known; columns are the label names. A plain array where
        pandas is not installed.

    Examples
    --------
    >>> to_indicator([["joy"], [], ["fear", "joy"]])
       fear  joy
    0     0    1
    1     0    0
    2     1    1
    """
    space = LabelSpace.infer(labels, classes)
    targets = space.encode(labels)
    dense = targets.indicator.toarray()
    if targets.unknown is not None:
        dense[targets.unknown.toarray()] = -1
    try:
        import pandas as pd
    except ImportError:
        return dense
    return pd.DataFrame(dense, columns=list(space.names))


def _checked_names(names: Iterable[Any]) -> tuple[Label, ...]:
    names = list(names)
    for name in names:
        if not is_label_type(type(name)) or name == "":
            raise InvalidInputError(f"A label name must be an int or a str that is not empty, got {name!r}.")
    if not names:
        raise InvalidInputError("There must be at least one label, got an empty list of classes.")
    plain = tuple(map(as_label, names))
    if len(set(plain)) < len(plain):
        twice = next(name for place, name in enumerate(plain) if name in plain[:place])
        raise InvalidInputError(f"Label {twice!r} occurs twice among the classes or columns. Each must be named once.")
    return plain


def _listed(classes: Iterable[Label]) -> list[Label]:
    if isinstance(classes, (str, bytes)):
        raise InvalidInputError(f"classes must be a sequence of labels, got a single str. Wrap it: [{classes!r}].")
    return list(classes)


def _sort_key(label: Label) -> tuple[bool, Label]:
    """Sort whole numbers before text, each by value."""
    return isinstance(label, str), label


def _check_not_nested(read: LabelRows, n_labels: int | None) -> None:
    """Refuse nested lists of 0 and 1: rows of an indicator matrix look like lists of the labels 0 and 1."""
    if read.width is None:
        return
    repeats = any(len(set(read.labels[at : at + read.width])) < read.width for at in range(0, len(read.labels), read.width))
    if repeats or (read.width > 1 if n_labels is None else read.width == n_labels):
        raise InvalidInputError(
            f"Y is a nested list of 0 and 1 with {read.width} entries in every row, which may mean an indicator matrix "
            "or the labels 0 and 1. Pass np.asarray(Y) for an indicator matrix, [set(row) for row in Y] for labels."
        )


def _warn_dropped(labels: list[Any]) -> None:
    if labels:
        names = sorted(set(map(as_label, labels)), key=_sort_key)
        warnings.warn(
            f"{len(labels)} labels of Y are not known to the model and count as missed: "
            f"{', '.join(map(repr, names[:5]))}{' and others' if len(names) > 5 else ''}.",
            stacklevel=4,
        )


def _csr(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int], dtype: type[np.generic]) -> Any:
    """Return a CSR matrix of ones; a cell named twice is one all the same."""
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(rows), dtype=dtype), (rows, columns)), shape=shape)
    matrix.data[:] = 1
    matrix.sort_indices()
    return matrix


def _columns_of(matrix: Any, order: list[int]) -> Any:
    """Return a CSR matrix with some columns, in the order given."""
    picked = matrix[:, order]
    picked.sort_indices()
    return picked
