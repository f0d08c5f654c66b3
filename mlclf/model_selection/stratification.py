"""Iterative stratification: folds in which every label has its share of positive rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlclf.targets import csr_of_ones, stored_cells

if TYPE_CHECKING:
    from mlclf.label_cells import Csr


def assign_folds(
    indicator: Csr, sizes: NDArray[np.int64], rng: np.random.Generator | None, first: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Distribute rows over folds so that each label is spread as the folds' sizes are.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", 2011,
    doi:10.1007/978-3-642-23808-6_10): the label with the fewest rows left goes first, and each of its rows to the fold
    that lacks most rows of that label, between equals to the one that lacks most rows. Here a fold is never filled
    beyond its size, and rows without any label count as a label of their own.

    Parameters
    ----------
    indicator : csr_array of int8, shape (n_samples, n_labels)
        1 where the label applies.
    sizes : ndarray of int64, shape (n_folds,)
        Rows of each fold; together n_samples.
    rng : Generator or None
        Decides which rows of a label go where, and between equal folds; None takes rows and folds in their order.
    first : ndarray of int64, optional
        Rows that belong to fold 0, no more than it holds.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
        The fold of each row.
    """
    allocation = _Allocation(_with_empty_rows_as_label(indicator), sizes, rng)
    if first is not None:
        allocation.place(first, np.zeros(len(first), dtype=np.int64))
    while (rows := allocation.next_rows()) is not None:
        allocation.place(rows, allocation.choose(len(rows)))
    return allocation.folds


class _Allocation:
    """The state of one run of iterative stratification: what is left, and what each fold still lacks."""

    def __init__(self, indicator: Csr, sizes: NDArray[np.int64], rng: np.random.Generator | None) -> None:
        n_samples = indicator.shape[0]
        self.indicator = indicator
        self.folds = np.full(n_samples, -1, dtype=np.int64)
        self.room = sizes.astype(np.int64)
        self.tie = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
        order = np.arange(n_samples) if rng is None else rng.permutation(n_samples)
        by_label = indicator[order].tocsc()
        self.rows, self.starts = order[by_label.indices], by_label.indptr
        self.left = np.diff(by_label.indptr).astype(np.int64)
        # Counted in units of 1 / n_samples, in which every share is a whole number and ties are exact.
        self.unit = n_samples
        self.lacking = self.left[:, None] * self.room
        # Labels by their number of rows left. With one bucket a number, a change costs the same however many labels
        # there are; an entry from before a change stays and is passed over.
        self.buckets: list[list[int]] = [[] for _ in range(n_samples + 1)]
        for label, count in enumerate(self.left.tolist()):
            self.buckets[count].append(label)
        self.fewest = 1
        self.label = -1

    def next_rows(self) -> NDArray[np.int64] | None:
        """Turn to the label with the fewest rows left and return these rows; None once all rows are placed."""
        while self.fewest < len(self.buckets):
            bucket = self.buckets[self.fewest]
            if not bucket:
                self.fewest += 1
                continue
            self.label = bucket.pop()
            if self.left[self.label] == self.fewest:
                rows = self.rows[self.starts[self.label] : self.starts[self.label + 1]]
                return rows[self.folds[rows] < 0]
        return None

    def choose(self, n_rows: int) -> NDArray[np.int64]:
        """Return the folds of the current label's rows, one after the other.

        A row sent to a fold lowers what this fold lacks by one, of the label and in all. So the fold's bids are known
        beforehand, and the highest ``n_rows`` bids of all folds are those that taking the best fold row by row finds.
        """
        places = np.minimum(self.room, n_rows)
        folds = np.repeat(np.arange(len(places)), places)
        taken = np.arange(len(folds)) - np.repeat(np.cumsum(places) - places, places)
        of_label = self.lacking[self.label, folds] - taken * self.unit
        in_all = self.room[folds] - taken
        return folds[np.lexsort((self.tie[folds], -in_all, -of_label))[:n_rows]]

    def place(self, rows: NDArray[np.int64], folds: NDArray[np.int64]) -> None:
        """Put rows into folds and count down what is left and lacking of all their labels."""
        self.folds[rows] = folds
        self.room -= np.bincount(folds, minlength=len(self.room))
        places, labels = stored_cells(self.indicator, rows)
        np.subtract.at(self.lacking, (labels, folds[places]), self.unit)
        np.subtract.at(self.left, labels, 1)
        for label in set(labels.tolist()):
            if count := int(self.left[label]):
                self.buckets[count].append(label)
                self.fewest = min(self.fewest, count)


def _with_empty_rows_as_label(indicator: Csr) -> Csr:
    """Return the matrix with one more column, 1 where no label applies."""
    n_samples, n_labels = indicator.shape
    lengths = np.diff(indicator.indptr)
    empty = np.flatnonzero(lengths == 0)
    rows = np.concatenate([np.repeat(np.arange(n_samples), lengths), empty])
    columns = np.concatenate([indicator.indices, np.full(len(empty), n_labels)])
    return csr_of_ones(rows, columns, (n_samples, n_labels + 1), np.int8)
