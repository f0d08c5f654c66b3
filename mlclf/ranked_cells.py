"""Known cells of a probability matrix, label by label and best first, for tuning and for average precision.

A cell is one 64-bit number that holds label, probability, group of the row and truth. Sorting plain numbers is about
ten times as fast as sorting an index and gathering by it, and a chunk of cells is all that is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.probabilities import Probabilities
from mlclf.targets import Targets

MAX_GROUPS = 16

# From the lowest bit: 1 bit truth, 4 bits group, 30 bits probability, and the label within its chunk above them.
# The bits of a float32 between 0 and 1 grow with its value; taken from those of 1.0 they sort best first.
_GROUP_SHIFT, _SCORE_SHIFT, _LABEL_SHIFT = 1, 5, 35
_ONE = np.uint64(0x3F800000)
_SCORE_MASK = np.uint64((1 << 30) - 1)

# Cells of a chunk: 16 MiB of packed numbers, and a few times that in what is computed from them.
_CHUNK_CELLS = 1 << 21


@dataclass(frozen=True)
class Cells:
    """Known cells with a probability above 0 of some neighbouring labels.

    Parameters
    ----------
    first : int
        Column of the first label.
    packed : ndarray of uint64, shape (n_cells,)
        The cells, label after label.
    starts : ndarray of int64, shape (n_columns + 1,)
        Label ``first + c`` owns the cells ``starts[c]`` to ``starts[c + 1] - 1``.
    positives : ndarray of int64, shape (n_columns, n_groups)
        Known cells of each label and group to which the label applies, those of probability 0 among them.
    """

    first: int
    packed: NDArray[np.uint64]
    starts: NDArray[np.int64]
    positives: NDArray[np.int64]

    @property
    def n_columns(self) -> int:
        """Number of labels of the chunk."""
        return len(self.starts) - 1

    @property
    def columns(self) -> slice:
        """Columns of the labels in the whole matrix."""
        return slice(self.first, self.first + self.n_columns)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Probability of each cell."""
        bits = _ONE - ((self.packed >> np.uint64(_SCORE_SHIFT)) & _SCORE_MASK)
        return bits.astype(np.uint32).view(np.float32)

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether the label applies, for each cell."""
        return (self.packed & np.uint64(1)).astype(np.bool_)

    @property
    def groups(self) -> NDArray[np.int64]:
        """Group of each cell's row."""
        return ((self.packed >> np.uint64(_GROUP_SHIFT)) & np.uint64(MAX_GROUPS - 1)).astype(np.int64)

    @property
    def tie_keys(self) -> NDArray[np.uint64]:
        """A number for each cell that is equal where label and probability are."""
        return self.packed >> np.uint64(_SCORE_SHIFT)

    @property
    def owners(self) -> NDArray[np.int64]:
        """Label of each cell, counted from the chunk's first."""
        return np.repeat(np.arange(self.n_columns), np.diff(self.starts))

    def ranked(self) -> Cells:
        """Return the cells with the best of each label first."""
        return replace(self, packed=np.sort(self.packed))

    def pooled(self) -> Cells:
        """Return the cells as those of one label, the best first."""
        packed = np.sort(self.packed & np.uint64((1 << _LABEL_SHIFT) - 1))
        return Cells(self.first, packed, _starts(np.array([len(packed)])), self.positives.sum(axis=0, keepdims=True))

    def select(self, chosen: NDArray[np.bool_]) -> Cells:
        """Return some of the cells, in their order; counts of positives stay those of the whole."""
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(chosen)])
        return replace(self, packed=self.packed[chosen], starts=before[self.starts])


def cell_chunks(
    probabilities: Probabilities, targets: Targets, groups: NDArray[np.uint8] | None = None
) -> Iterator[Cells]:
    """Yield all known cells, some labels at a time.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are left out.
    groups : ndarray of uint8, shape (n_samples,), optional
        A number below 16 for each row, for example its fold; 0 for all rows without it.

    Yields
    ------
    Cells
        Not sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["a", "b"]])
    >>> chunk, = cell_chunks(np.array([[0.25, 0.5], [0.75, 0.0]], dtype=np.float32), targets)
    >>> chunk.ranked().scores.tolist(), chunk.starts.tolist(), chunk.positives.ravel().tolist()
    ([0.75, 0.25, 0.5], [0, 2, 3], [2, 1])
    """
    if groups is None:
        groups = np.zeros(len(targets), dtype=np.uint8)
    return _chunks(probabilities, targets.indicator, targets.unknown, groups)


def row_chunks(probabilities: Probabilities, targets: Targets) -> Iterator[Cells]:
    """Yield all known cells like :func:`cell_chunks`, with the rows in the place of the labels.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["a", "b"]])
    >>> chunk, = row_chunks(np.array([[0.25, 0.5], [0.75, 0.0]], dtype=np.float32), targets)
    >>> chunk.ranked().scores.tolist(), chunk.starts.tolist(), chunk.positives.ravel().tolist()
    ([0.5, 0.25, 0.75], [0, 2, 3], [1, 2])
    """
    unknown = None if targets.unknown is None else targets.unknown.T
    return _chunks(probabilities.T, targets.indicator.T, unknown, np.zeros(targets.n_labels, dtype=np.uint8))


def _chunks(probabilities: Any, truth: Any, unknown: Any, groups: NDArray[np.uint8]) -> Iterator[Cells]:
    by_column = truth.tocsc(), None if unknown is None else unknown.tocsc()
    if isinstance(probabilities, np.ndarray):
        return _dense_chunks(probabilities, *by_column, groups)
    return _sparse_chunks(probabilities.tocsc(), *by_column, groups)


def _dense_chunks(
    probabilities: NDArray[np.float32], truth: Any, unknown: Any, groups: NDArray[np.uint8]
) -> Iterator[Cells]:
    n_samples, n_labels = probabilities.shape
    width = max(1, _CHUNK_CELLS // max(1, n_samples))
    for first in range(0, n_labels, width):
        part = np.ascontiguousarray(probabilities[:, first : first + width].T)
        packed = _pack(np.arange(len(part))[:, None], part, groups)
        rows, columns = _stored(truth, first, first + len(part))
        packed[columns, rows] |= np.uint64(1)
        kept = part > 0
        if unknown is not None:
            gaps, gap_columns = _stored(unknown, first, first + len(part))
            kept[gap_columns, gaps] = False
        yield Cells(first, packed[kept], _starts(kept.sum(axis=1)), _count(rows, columns, groups, len(part)))


def _sparse_chunks(probabilities: Any, truth: Any, unknown: Any, groups: NDArray[np.uint8]) -> Iterator[Cells]:
    n_samples, n_labels = probabilities.shape
    first = 0
    while first < n_labels:
        limit = probabilities.indptr[first] + _CHUNK_CELLS
        end = max(first + 1, int(np.searchsorted(probabilities.indptr, limit, side="right")) - 1)
        cells, owners = _stored(probabilities, first, end)
        values = probabilities.data[probabilities.indptr[first] : probabilities.indptr[end]]
        packed = _pack(owners, values, groups[cells])
        places = owners * n_samples + cells
        rows, columns = _stored(truth, first, end)
        packed[_found(places, columns * n_samples + rows)] |= np.uint64(1)
        kept = values > 0
        if unknown is not None:
            gaps, gap_columns = _stored(unknown, first, end)
            kept[_found(places, gap_columns * n_samples + gaps)] = False
        counts = np.bincount(owners[kept], minlength=end - first)
        yield Cells(first, packed[kept], _starts(counts), _count(rows, columns, groups, end - first))
        first = end


def _pack(owners: NDArray[np.int64], scores: NDArray[np.float32], groups: NDArray[np.uint8]) -> NDArray[np.uint64]:
    # Adding 0 turns -0.0, whose sign bit would be read as a large number, into 0.0.
    packed = _ONE - (scores + np.float32(0)).view(np.uint32).astype(np.uint64)
    packed <<= np.uint64(_SCORE_SHIFT)
    packed |= owners.astype(np.uint64) << np.uint64(_LABEL_SHIFT)
    packed |= groups.astype(np.uint64) << np.uint64(_GROUP_SHIFT)
    return packed


def _stored(matrix: Any, first: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns (from ``first`` on) of the stored cells of some columns of a CSC matrix."""
    lengths = np.diff(matrix.indptr[first : end + 1])
    rows = matrix.indices[matrix.indptr[first] : matrix.indptr[end]].astype(np.int64)
    return rows, np.repeat(np.arange(end - first, dtype=np.int64), lengths)


def _found(places: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where those ``wanted`` that occur stand in the sorted ``places``."""
    if not len(places):
        return np.zeros(0, dtype=np.int64)
    at = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
    found: NDArray[np.int64] = at[places[at] == wanted]
    return found


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _count(
    rows: NDArray[np.int64], columns: NDArray[np.int64], groups: NDArray[np.uint8], n_columns: int
) -> NDArray[np.int64]:
    """Count positive cells by label and group."""
    n_groups = int(groups.max(initial=0)) + 1
    counts = np.bincount(columns * n_groups + groups[rows], minlength=n_columns * n_groups)
    return counts.reshape(n_columns, n_groups).astype(np.int64)
