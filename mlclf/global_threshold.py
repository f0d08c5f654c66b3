"""The single threshold that maximises micro-F1, exactly and in bounded memory.

Only the probabilities of positive cells can be the best cut: lowering a threshold to any other cell adds a false
positive and nothing else. So cells are counted between the probabilities of the positives, some labels at a time, and
never sorted as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.probabilities import Probabilities
from mlclf.ranked_cells import cell_chunks
from mlclf.targets import Targets


@dataclass(frozen=True)
class GlobalOptimum:
    """The single threshold with the largest micro-F1.

    Parameters
    ----------
    threshold : float
    f1 : float
        Micro-F1 at the threshold.
    size : float
        Predicted plus positive cells at the threshold, the denominator of micro-F1.
    """

    threshold: float
    f1: float
    size: float


def tune_global(probabilities: Probabilities, targets: Targets) -> GlobalOptimum:
    """Find the threshold that maximises micro-F1 over all known cells.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape.

    Returns
    -------
    GlobalOptimum
        0.5 where no known cell of probability above 0 is positive.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["a", "b"]])
    >>> found = tune_global(np.array([[0.5, 0.25], [0.75, 0.5]], dtype=np.float32), targets)
    >>> found.threshold, found.f1
    (0.375, 1.0)
    """
    return global_optima(probabilities, targets, np.zeros(len(targets), dtype=np.uint8))[0]


def global_optima(probabilities: Probabilities, targets: Targets, groups: NDArray[np.uint8]) -> list[GlobalOptimum]:
    """Find the single thresholds of cross-validation and that of all rows, in one pass over the cells.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
    targets : Targets
    groups : ndarray of uint8, shape (n_samples,)
        Group of each row, below 16.

    Returns
    -------
    list of GlobalOptimum
        For each group that of all rows outside it, and at the end that of all rows; only the latter where there is
        one group.
    """
    n_groups = int(groups.max(initial=0)) + 1
    scores = [cells.scores[cells.truth] for cells in cell_chunks(probabilities, targets)]
    candidates = np.unique(np.concatenate([*scores, np.zeros(0, dtype=np.float32)]))
    if not len(candidates):
        return [GlobalOptimum(0.5, 0.0, 1.0)] * (n_groups + (n_groups > 1))
    predicted, hits, positives = _histograms(probabilities, targets, groups, candidates)
    weights = np.ones((n_groups + (n_groups > 1), n_groups))
    weights[:-1] -= np.eye(n_groups)[: len(weights) - 1]
    predicted, hits, positives = weights @ predicted, weights @ hits, weights @ positives
    f1 = 2 * hits / np.maximum(predicted + positives[:, None], 1)
    best = len(candidates) - 1 - np.argmax(f1[:, ::-1], axis=1)
    at = np.arange(len(weights))
    cuts = candidates[best]
    thresholds = _middles(cuts, _next_lower(probabilities, targets, cuts))
    sizes = np.maximum(predicted[at, best] + positives, 1)
    return [GlobalOptimum(*map(float, found)) for found in zip(thresholds, f1[at, best], sizes, strict=True)]


def _histograms(
    probabilities: Probabilities, targets: Targets, groups: NDArray[np.uint8], candidates: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count, by group, cells and positive cells at or above each candidate, and all positive cells."""
    n_groups, n_bins = int(groups.max(initial=0)) + 1, len(candidates) + 1
    counts = np.zeros((2, n_groups, n_bins))
    positives = np.zeros(n_groups)
    for chunk in cell_chunks(probabilities, targets, groups):
        # Numbers in order are found about five times as fast as in any order.
        cells = chunk.pooled()
        bins = np.searchsorted(candidates, cells.scores, side="right") + cells.groups * n_bins
        counts[0] += np.bincount(bins, minlength=n_groups * n_bins).reshape(n_groups, n_bins)
        counts[1] += np.bincount(bins[cells.truth], minlength=n_groups * n_bins).reshape(n_groups, n_bins)
        positives += cells.positives.sum(axis=0)
    above = np.cumsum(counts[:, :, :0:-1], axis=2)[:, :, ::-1]
    return above[0], above[1], positives


def _next_lower(probabilities: Probabilities, targets: Targets, cuts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest probability below each cut."""
    lower = np.zeros_like(cuts)
    for cells in cell_chunks(probabilities, targets):
        scores = cells.scores
        for i, cut in enumerate(cuts):
            lower[i] = max(lower[i], scores.max(initial=0, where=scores < cut))
    return lower


def _middles(cuts: NDArray[np.float32], lower: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle of each gap, or its upper end where float32 has nothing between."""
    middle = ((cuts.astype(np.float64) + lower) / 2).astype(np.float32)
    return np.where(middle > lower, middle, cuts)
