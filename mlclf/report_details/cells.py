"""Cells: which decisions of some rows are wrong, without a dense matrix where probabilities are sparse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.probabilities import Probabilities
from mlclf.targets import Targets, stored_cells
from mlclf.thresholds import Thresholds

# Cells of a block of rows: 4 MiB of float32.
_BLOCK_CELLS = 1 << 20


@dataclass(frozen=True)
class WrongCells:
    """Cells that were decided wrongly.

    Parameters
    ----------
    rows : ndarray of int64, shape (n_cells,)
        Position among the rows that were looked at.
    columns : ndarray of int64, shape (n_cells,)
    applies : ndarray of bool, shape (n_cells,)
        True where the label applies and is not predicted.
    probabilities : ndarray of float64, shape (n_cells,)
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    applies: NDArray[np.bool_]
    probabilities: NDArray[np.float64]


def wrong_cells(
    probabilities: Probabilities, targets: Targets, thresholds: Thresholds, rows: NDArray[np.int64]
) -> WrongCells:
    """Find the wrong decisions about some rows.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are never wrong.
    thresholds : Thresholds
    rows : ndarray of int64, shape (n,)

    Returns
    -------
    WrongCells
    """
    n_labels = targets.n_labels
    part = probabilities[rows]
    decided = thresholds.apply(part)
    predicted = np.flatnonzero(decided) if isinstance(decided, np.ndarray) else _places(decided, n_labels)
    applying = _stored(targets.indicator, rows, n_labels)
    missed = np.setdiff1d(applying, predicted, assume_unique=True)
    false = np.setdiff1d(predicted, applying, assume_unique=True)
    if targets.unknown is not None:
        false = np.setdiff1d(false, _stored(targets.unknown, rows, n_labels), assume_unique=True)
    places = np.concatenate([missed, false])
    applies = np.arange(len(places)) < len(missed)
    return WrongCells(places // n_labels, places % n_labels, applies, _values(part, places, n_labels))


def row_blocks(probabilities: Probabilities) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of all rows, in blocks that hold few cells."""
    n_rows, n_labels = probabilities.shape
    width = n_labels if isinstance(probabilities, np.ndarray) else probabilities.nnz // max(1, n_rows) + 1
    height = max(1, _BLOCK_CELLS // max(1, width))
    for start in range(0, n_rows, height):
        yield np.arange(start, min(start + height, n_rows))


def _stored(matrix: object, rows: NDArray[np.int64], n_labels: int) -> NDArray[np.int64]:
    """Return where the stored cells of some rows stand, counted row after row."""
    places, columns = stored_cells(matrix, rows)  # type: ignore[arg-type]  # a CSR matrix
    return places * n_labels + columns


def _places(matrix: object, n_labels: int) -> NDArray[np.int64]:
    """Return where all stored cells of a CSR matrix stand."""
    return _stored(matrix, np.arange(matrix.shape[0]), n_labels)  # type: ignore[attr-defined]  # a CSR matrix


def _values(part: Probabilities, places: NDArray[np.int64], n_labels: int) -> NDArray[np.float64]:
    """Return the probabilities of some cells; 0 for those that are not stored."""
    if isinstance(part, np.ndarray):
        return part.reshape(-1)[places].astype(np.float64)
    stored = _places(part, n_labels)
    if not len(stored):
        return np.zeros(len(places))
    at = np.minimum(np.searchsorted(stored, places), len(stored) - 1)
    return np.where(stored[at] == places, part.data[at], 0).astype(np.float64)
