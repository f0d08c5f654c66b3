"""Targets: which labels apply to which training rows, sparse, with a mask of cells that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError

if TYPE_CHECKING:
    from mlclf.label_cells import Csr


@dataclass(frozen=True, eq=False)
class Targets:
    """The indicator matrix of some samples and, beside it, the cells that are not known.

    Parameters
    ----------
    indicator : csr_array of int8, shape (n_samples, n_labels)
        1 where the label applies; sorted, without stored zeros.
    unknown : csr_array of bool, shape (n_samples, n_labels), or None
        True where it is not known whether the label applies; such a cell is never positive. None where all
        cells are known.
    dropped_per_row : ndarray of int64, shape (n_samples,), or None
        Labels of each sample that are not part of the label space and were left out with a warning; None where
        there are none.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("anger", "joy")).encode([["joy"], [], ["anger", "joy"]])
    >>> targets.positives.tolist()
    [1, 2]
    >>> import numpy as np
    >>> targets.dense(np.array([2, 0]))[0].tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """

    indicator: Csr
    unknown: Csr | None = None
    dropped_per_row: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.indicator.shape[0]

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.indicator.shape[1]

    @property
    def dropped(self) -> int:
        """Number of labels, over all samples, that were left out because the label space lacks them."""
        return 0 if self.dropped_per_row is None else int(self.dropped_per_row.sum())

    @cached_property
    def positives(self) -> NDArray[np.int64]:
        """Samples to which each label applies, int64 ``(n_labels,)``."""
        return np.bincount(self.indicator.indices, minlength=self.n_labels).astype(np.int64)

    @cached_property
    def known_counts(self) -> NDArray[np.int64]:
        """Samples for which it is known whether each label applies, int64 ``(n_labels,)``."""
        if self.unknown is None:
            return np.full(self.n_labels, len(self), dtype=np.int64)
        return len(self) - np.bincount(self.unknown.indices, minlength=self.n_labels).astype(np.int64)

    def dense(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return some samples as dense arrays, as a training step needs them.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Sample numbers.

        Returns
        -------
        targets : ndarray of float32, shape (n, n_labels)
            1 where the label applies.
        known : ndarray of bool, shape (n, n_labels), or None
            False where it is not known whether the label applies; None where all cells of all samples are known.
        """
        targets = np.zeros((len(rows), self.n_labels), dtype=np.float32)
        targets[stored_cells(self.indicator, rows)] = 1
        if self.unknown is None:
            return targets, None
        known = np.ones((len(rows), self.n_labels), dtype=np.bool_)
        known[stored_cells(self.unknown, rows)] = False
        return targets, known

    def take(self, rows: NDArray[np.int64]) -> Targets:
        """Return the targets of some samples, in the order given.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Sample numbers.

        Returns
        -------
        Targets
            Of length n.
        """
        unknown = None if self.unknown is None else self.unknown[rows]
        dropped = None if self.dropped_per_row is None else self.dropped_per_row[rows]
        return Targets(self.indicator[rows], unknown, dropped)

    def widened(self, n_labels: int) -> Targets:
        """Return the targets with further labels at the end, of which nobody knows whether they apply.

        Parameters
        ----------
        n_labels : int
            Number of labels wanted, at least as many as there are.

        Examples
        --------
        >>> from mlclf.labels import LabelSpace
        >>> targets = LabelSpace(("anger",)).encode([["anger"], []]).widened(2)
        >>> targets.known_counts.tolist()
        [2, 0]
        """
        added = n_labels - self.n_labels
        if not added:
            return self
        from scipy.sparse import csr_array, hstack

        shape = (len(self), added)
        unknown = csr_array(self.indicator.shape, dtype=np.bool_) if self.unknown is None else self.unknown
        return Targets(
            hstack([self.indicator, csr_array(shape, dtype=np.int8)], format="csr"),
            hstack([unknown, csr_array(np.ones(shape, dtype=np.bool_))], format="csr"),
            self.dropped_per_row,
        )


def check_trainable(targets: Targets) -> None:
    """Refuse targets from which nothing can be learned.

    Parameters
    ----------
    targets : Targets
        Targets of all training rows.

    Raises
    ------
    InvalidInputError
        If there are fewer than two labels, or no cell is known, or no label applies to any sample.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> check_trainable(LabelSpace(("anger", "joy")).encode([["joy"], []]))
    """
    if targets.n_labels < 2:
        raise InvalidInputError(
            f"Y must have at least 2 labels, got {targets.n_labels}. With one label scikit-learn reads the columns "
            "of predict_proba as two classes, and its scores come out inverted. Add a second label (for example the "
            "opposite of the first), or name the labels that may occur with classes=."
        )
    if not targets.known_counts.any():
        raise InvalidInputError("Y has no known cell: every one is NaN, -1 or None. Label at least some cells.")
    if not targets.positives.any():
        raise InvalidInputError(
            f"No label applies to any of the {len(targets)} rows of Y, so there is nothing to learn. "
            "Check that Y was read from the right column and that 1 means 'applies'."
        )


def stacked(parts: Sequence[Targets]) -> Targets:
    """Return the targets of several sets of samples, one set after the other.

    Parameters
    ----------
    parts : sequence of Targets
        At least one; all with the same labels.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> space = LabelSpace(("anger", "joy"))
    >>> stacked([space.encode([["joy"]]), space.encode([[]])]).indicator.toarray().tolist()
    [[0, 1], [0, 0]]
    """
    from scipy.sparse import csr_array, vstack

    def unknown_of(part: Targets) -> Csr:
        return csr_array(part.indicator.shape, dtype=np.bool_) if part.unknown is None else part.unknown

    def dropped_of(part: Targets) -> NDArray[np.int64]:
        return np.zeros(len(part), dtype=np.int64) if part.dropped_per_row is None else part.dropped_per_row

    complete = all(part.unknown is None for part in parts)
    kept = all(part.dropped_per_row is None for part in parts)
    return Targets(
        vstack([part.indicator for part in parts], format="csr"),
        None if complete else vstack([unknown_of(part) for part in parts], format="csr"),
        None if kept else np.concatenate([dropped_of(part) for part in parts]),
    )


def csr_of_ones(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int], dtype: type[np.generic]
) -> Csr:
    """Return a sorted CSR matrix of ones; a cell that is named twice is stored once.

    Parameters
    ----------
    rows, columns : ndarray of int64, shape (n_cells,)
    shape : tuple of int
    dtype : NumPy type

    Returns
    -------
    csr_array, shape as asked for
    """
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(rows), dtype=np.bool_), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    typed: Csr = matrix.astype(dtype)
    return typed


def stored_cells(matrix: Csr, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.integer[Any]]]:
    """Return where the stored cells of some rows stand, without the overhead of slicing the matrix.

    Parameters
    ----------
    matrix : csr_array, shape (n_samples, n_columns)
    rows : ndarray of int64, shape (n,)

    Returns
    -------
    places : ndarray of int64, shape (n_cells,)
        Position in ``rows``.
    columns : ndarray of int, shape (n_cells,)
    """
    starts = matrix.indptr[rows]
    lengths = matrix.indptr[rows + 1] - starts
    ends = np.cumsum(lengths)
    stored = np.arange(ends[-1] if len(rows) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return np.repeat(np.arange(len(rows)), lengths), matrix.indices[stored]
