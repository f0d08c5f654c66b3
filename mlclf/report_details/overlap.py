"""Overlap: which labels apply together, and which one is predicted where another one is meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.probabilities import Probabilities
from mlclf.report_details.cells import row_blocks
from mlclf.targets import Targets
from mlclf.thresholds import Thresholds


@dataclass(frozen=True, eq=False)
class LabelOverlap:
    """Rows that pairs of labels share.

    Parameters
    ----------
    columns : ndarray of int64, shape (n,)
        Labels that were compared.
    together : ndarray of int64, shape (n, n)
        Rows to which both labels apply; on the diagonal, rows to which the label applies.
    predicted_together : ndarray of int64, shape (n, n)
        Rows for which both are predicted.
    confused : ndarray of int64, shape (n, n)
        Rows to which the first label applies without being predicted, while the second one is predicted and does not
        apply.
    missed : ndarray of int64, shape (n,)
        Rows to which each label applies without being predicted.
    """

    columns: NDArray[np.int64]
    together: NDArray[np.int64]
    predicted_together: NDArray[np.int64]
    confused: NDArray[np.int64]
    missed: NDArray[np.int64]


def label_overlap(
    probabilities: Probabilities, targets: Targets, thresholds: Thresholds, columns: NDArray[np.int64]
) -> LabelOverlap:
    """Count the rows that pairs of labels share, some rows at a time.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are left out.
    thresholds : Thresholds
        For all labels: a limit on the labels of a row counts those that are not compared too.
    columns : ndarray of int64, shape (n,)
        Labels to compare.

    Returns
    -------
    LabelOverlap

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a", "b"], ["a"]])
    >>> p = np.array([[0.9, 0.8], [0.1, 0.7]], dtype=np.float32)
    >>> overlap = label_overlap(p, targets, Thresholds.fixed(2), np.arange(2))
    >>> overlap.together.tolist(), overlap.confused.tolist()
    ([[2, 1], [1, 1]], [[0, 1], [0, 0]])
    """
    shape = (len(columns), len(columns))
    together, predicted_together, confused = np.zeros((3, *shape), dtype=np.int64)
    missed = np.zeros(len(columns), dtype=np.int64)
    for rows in row_blocks(probabilities):
        truth = _dense(targets.indicator[rows], columns)
        predicted = _dense(thresholds.apply(probabilities[rows]), columns)
        if targets.unknown is not None:
            predicted *= 1 - _dense(targets.unknown[rows], columns)
        wrong, left_out = predicted * (1 - truth), truth * (1 - predicted)
        # Counts of a block are whole numbers below 2**24: float32 products are exact.
        together += (truth.T @ truth).astype(np.int64)
        predicted_together += (predicted.T @ predicted).astype(np.int64)
        confused += (left_out.T @ wrong).astype(np.int64)
        missed += left_out.sum(axis=0).astype(np.int64)
    return LabelOverlap(columns, together, predicted_together, confused, missed)


def _dense(matrix: Any, columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return some columns of an indicator matrix as 0 and 1."""
    chosen = matrix[:, columns]
    return np.asarray(chosen if isinstance(chosen, np.ndarray) else chosen.toarray(), dtype=np.float32)
