"""LabelSpace: which label stands in which column; every form of Y in, sparse targets out."""

from __future__ import annotations

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
from mlclf.label_names import Label, as_label, checked_names, closest_hint, sort_key
from mlclf.label_rows import LabelRows, refuse_nested_indicator
from mlclf.targets import Targets, check_trainable, csr_of_ones

__all__ = ["Label", "LabelSpace", "Targets", "YFormat", "check_trainable", "to_indicator", "y_format"]

OnUnknown = Literal["error", "warn"]


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
    >>> space.encode([{"joy", "fear"}, {"anger"}]).indicator.toarray().tolist()
    [[0, 1, 1], [1, 0, 0]]
    >>> space.decode(space.encode([["joy", "fear"], []]).indicator)
    [('fear', 'joy'), ()]
    """

    names: tuple[Label, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", checked_names(self.names))

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
            Rows of label names (lists, tuples, sets, 1-D arrays; in a list, object array or Series), dictionaries of
            label and True, False or None, or a matrix of 0, 1 and, where not known, NaN or -1.
        classes : iterable of str or int, optional
            Labels in the column order wanted. Without it: the columns of a DataFrame; 0 to n_labels - 1 for an
            array or sparse matrix; for rows of names all that occur, sorted, whole numbers before text.

        Returns
        -------
        LabelSpace

        Raises
        ------
        InvalidInputError
            If Y has none of the forms, or no label occurs in it and ``classes`` is not given.
        """
        if classes is not None:
            return cls(classes)  # type: ignore[arg-type]  # any iterable becomes a tuple
        read = read_labels(Y)
        if isinstance(read, Cells):
            return cls(tuple(range(read.indicator.shape[1])) if read.names is None else read.names)
        refuse_nested_indicator(read, None)
        if not read.labels:
            raise InvalidInputError(
                f"No label occurs in the {len(read)} rows of Y. Name the labels that may occur with classes=."
            )
        return cls(tuple(sorted(map(as_label, set(read.labels)), key=sort_key)))

    def encode(self, Y: Any, *, unknown_labels: OnUnknown = "error", n_samples: int | None = None) -> Targets:
        """Turn Y into targets with this label space's columns.

        Parameters
        ----------
        Y : label lists, array, DataFrame or sparse matrix
            Any form of :meth:`infer`. A DataFrame's columns are matched by name, in any order; those of an array or
            sparse matrix must be this label space's. In a dictionary True means that the label applies, None that it
            is not known; False, or leaving the label out, that it does not apply.
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
            If Y has none of the forms, other columns, or not ``n_samples`` rows.

        Examples
        --------
        >>> targets = LabelSpace(("fear", "joy")).encode([{"joy": True, "fear": None}, {}])
        >>> targets.indicator.toarray().tolist(), targets.unknown.toarray().tolist()
        ([[0, 1], [0, 0]], [[True, False], [False, False]])
        """
        read = read_labels(Y)
        if n_samples is not None and len(read) != n_samples:
            raise InvalidInputError(
                f"X and Y must be equally long, got {n_samples} texts and {len(read)} rows of labels."
            )
        if isinstance(read, LabelRows):
            return self._encode_rows(read, unknown_labels)
        if read.names is not None:
            return self._encode_frame(read, read.names, unknown_labels)
        if read.indicator.shape[1] != self.n_labels:
            raise InvalidInputError(
                f"Y must have {self.n_labels} columns, one for each label, got {read.indicator.shape[1]}."
            )
        return Targets(read.indicator, read.unknown)

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
        if label not in self._columns:
            raise UnknownLabelError(f"Label {label!r} is not known. {closest_hint(label, self.names)}")
        return self._columns[label]

    @cached_property
    def _columns(self) -> dict[Label, int]:
        return {name: column for column, name in enumerate(self.names)}

    def _encode_rows(self, read: LabelRows, on_unknown: OnUnknown) -> Targets:
        refuse_nested_indicator(read, self.n_labels)
        looked_up = map(self._columns.get, read.labels, repeat(-1))
        columns = np.fromiter(looked_up, dtype=np.int64, count=len(read.labels))
        owners, shape = read.owners, (len(read), self.n_labels)
        applies, unsure = columns >= 0, np.zeros(len(columns), dtype=np.bool_)
        if read.states is not None:
            applies, unsure = applies & (read.states == 1), applies & (read.states == -1)
        return Targets(
            csr_of_ones(owners[applies], columns[applies], shape, np.int8),
            csr_of_ones(owners[unsure], columns[unsure], shape, np.bool_) if unsure.any() else None,
            self._dropped_rows(read, owners, np.flatnonzero(columns < 0), on_unknown),
        )

    def _dropped_rows(
        self, read: LabelRows, owners: NDArray[np.int64], foreign: NDArray[np.int64], on_unknown: OnUnknown
    ) -> NDArray[np.int64] | None:
        """Count in each row the labels that apply and have no column; None where every label has one."""
        if not len(foreign):
            return None
        if on_unknown == "error":
            self._refuse(read.labels[foreign[0]], f"row {owners[foreign[0]]} of Y")
        if read.states is not None:
            foreign = foreign[read.states[foreign] == 1]
        pairs = {(owner, read.labels[entry]) for owner, entry in zip(owners[foreign].tolist(), foreign, strict=True)}
        _warn_dropped([label for _, label in pairs])
        return np.bincount(np.array([owner for owner, _ in pairs], dtype=np.int64), minlength=len(read))

    def _encode_frame(self, read: Cells, names: tuple[Label, ...], on_unknown: OnUnknown) -> Targets:
        place = {name: column for column, name in enumerate(checked_names(names))}
        foreign = [column for name, column in place.items() if name not in self._columns]
        if foreign and on_unknown == "error":
            self._refuse(names[foreign[0]], "a column of Y")
        missing = [name for name in self.names if name not in place]
        if missing:
            raise InvalidInputError(
                f"Y lacks the column of {len(missing)} of {self.n_labels} labels, first {missing[0]!r}. Add it: 0 "
                "where the label does not apply, NaN or -1 where that is not known."
            )
        order = [place[name] for name in self.names]
        unknown = None if read.unknown is None else _columns_of(read.unknown, order)
        return Targets(
            _columns_of(read.indicator, order),
            unknown if unknown is not None and unknown.nnz else None,
            _dropped_cells(read, names, foreign),
        )

    def _refuse(self, label: Any, where: str) -> None:
        raise UnknownLabelError(f"Label {label!r} ({where}) is not known. {closest_hint(label, self.names)}")


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
        1 where the label applies, -1 where that is not known; columns are the label names. A plain array where
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
        dense -= targets.unknown.astype(np.int8).toarray()
    try:
        import pandas as pd
    except ImportError:
        return dense
    index = labels.index if hasattr(labels, "iloc") else None
    return pd.DataFrame(dense, columns=list(space.names), index=index)


def _dropped_cells(read: Cells, names: tuple[Label, ...], foreign: list[int]) -> NDArray[np.int64] | None:
    """Count in each row the cells of columns that are left out; None where no column is."""
    if not foreign:
        return None
    left_out = read.indicator[:, foreign]
    _warn_dropped([names[foreign[column]] for column in left_out.indices.tolist()])
    return np.diff(left_out.indptr).astype(np.int64)


def _warn_dropped(labels: list[Any]) -> None:
    if labels:
        names = sorted(set(map(as_label, labels)), key=sort_key)
        warnings.warn(
            f"{len(labels)} labels of Y are not known to the model and count as missed: "
            f"{', '.join(map(repr, names[:5]))}{' and others' if len(names) > 5 else ''}.",
            stacklevel=5,
        )


def _columns_of(matrix: Any, order: list[int]) -> Any:
    """Return a CSR matrix with some columns, in the order given."""
    picked = matrix[:, order]
    picked.sort_indices()
    return picked
