"""Curves: what precision, recall and F1 of a label would be at other thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.probabilities import Probabilities
from mlclf.ranked_cells import cell_chunks
from mlclf.targets import Targets

N_POINTS = 101


@dataclass(frozen=True, eq=False)
class ThresholdCurves:
    """Counts of some labels, and of all labels together, at thresholds from 0 to 1.

    A limit on the labels of a row is not applied: each label is counted by itself.

    Parameters
    ----------
    grid : ndarray of float32, shape (n_points,)
        Thresholds.
    columns : ndarray of int64, shape (n_curves,)
        Labels that have a curve.
    predicted, hits : ndarray of int64, shape (n_curves, n_points)
        Known cells at or above each threshold, and those of them to which the label applies.
    positives : ndarray of int64, shape (n_curves,)
        Known cells to which the label applies.
    all_predicted, all_hits : ndarray of int64, shape (n_points,)
        The same for all labels of the model together, at one threshold.
    all_positives : int
    """

    grid: NDArray[np.float32]
    columns: NDArray[np.int64]
    predicted: NDArray[np.int64]
    hits: NDArray[np.int64]
    positives: NDArray[np.int64]
    all_predicted: NDArray[np.int64]
    all_hits: NDArray[np.int64]
    all_positives: int


def threshold_curves(
    probabilities: Probabilities, targets: Targets, columns: NDArray[np.int64], n_points: int = N_POINTS
) -> ThresholdCurves:
    """Count predicted and rightly predicted cells at every threshold of a grid, in one pass over all cells.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are left out.
    columns : ndarray of int64, shape (n_curves,)
        Labels that get a curve of their own.
    n_points : int
        Thresholds from 0 to 1.

    Returns
    -------
    ThresholdCurves

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["b"]])
    >>> p = np.array([[0.5, 0.25], [0.75, 0.25]], dtype=np.float32)
    >>> curves = threshold_curves(p, targets, np.array([0]), n_points=3)
    >>> curves.grid.tolist(), curves.predicted.tolist(), curves.hits.tolist(), curves.all_predicted.tolist()
    ([0.0, 0.5, 1.0], [[2, 2, 0]], [[1, 1, 0]], [4, 2, 0])
    """
    # Rounded in double precision, so that 0.3 is the float32 that a threshold of 0.3 is.
    grid = np.round(np.linspace(0, 1, n_points), 6).astype(np.float32)
    place = np.full(targets.n_labels, -1)
    place[columns] = np.arange(len(columns))
    counts = np.zeros((2, len(columns) + 1, n_points), dtype=np.int64)
    for cells in cell_chunks(probabilities, targets):
        # Labels without a curve are counted together, in the last row.
        rows = place[cells.columns][cells.owners] % (len(columns) + 1)
        truth = cells.truth
        counts[0] += _at_points(cells.scores, rows, grid, counts.shape[1])
        counts[1] += _at_points(cells.scores[truth], rows[truth], grid, counts.shape[1])
    predicted, hits = np.cumsum(counts[:, :, ::-1], axis=2)[:, :, ::-1]
    return ThresholdCurves(
        grid=grid,
        columns=columns,
        predicted=predicted[:-1],
        hits=hits[:-1],
        positives=targets.positives[columns],
        all_predicted=predicted.sum(axis=0),
        all_hits=hits.sum(axis=0),
        all_positives=int(targets.positives.sum()),
    )


def _at_points(
    scores: NDArray[np.float32], rows: NDArray[np.int64], grid: NDArray[np.float32], n_rows: int
) -> NDArray[np.int64]:
    """Count cells by row and by the highest threshold that they reach."""
    highest = np.searchsorted(grid, scores, side="right") - 1
    return np.bincount(rows * len(grid) + highest, minlength=n_rows * len(grid)).reshape(n_rows, len(grid))
