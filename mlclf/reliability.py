"""Reliability: how often labels apply to which something between two probabilities was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.probabilities import checked_probabilities
from mlclf.ranked_cells import cell_chunks
from mlclf.targets import Targets

N_BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """Known cells of all labels in bins of equal width by their probability.

    Parameters
    ----------
    cells : ndarray of int64, shape (n_bins,)
        Known cells in each bin.
    positives : ndarray of int64, shape (n_bins,)
        Those of them to which the label applies.
    probability : ndarray of float64, shape (n_bins,)
        Sum of their probabilities.
    """

    cells: NDArray[np.int64]
    positives: NDArray[np.int64]
    probability: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance between probability and frequency; NaN where no cell is known."""
        known = int(self.cells.sum())
        return float(np.abs(self.probability - self.positives).sum() / known) if known else float("nan")


def reliability(probabilities: Any, targets: Targets, n_bins: int = N_BINS) -> Reliability:
    """Count known cells by their probability (Guo et al., 2017, arXiv:1706.04599).

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
    targets : Targets
        Of the same shape; unknown cells are left out.
    n_bins : int
        At least 1.

    Returns
    -------
    Reliability

    Raises
    ------
    InvalidInputError
        If there is no bin, or probabilities do not fit the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], []])
    >>> found = reliability(np.array([[0.75, 0.0], [0.75, 0.0]]), targets, n_bins=2)
    >>> found.cells.tolist(), found.positives.tolist(), found.error
    ([2, 2], [0, 1], 0.125)
    """
    if n_bins < 1:
        raise InvalidInputError(f"n_bins must be at least 1, got {n_bins}.")
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    cells, positives = np.zeros(n_bins, dtype=np.int64), np.zeros(n_bins, dtype=np.int64)
    probability = np.zeros(n_bins)
    for chunk in cell_chunks(checked, targets):
        scores = chunk.scores.astype(np.float64)
        bins = np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)
        cells += np.bincount(bins, minlength=n_bins)
        positives += np.bincount(bins[chunk.truth], minlength=n_bins)
        probability += np.bincount(bins, weights=scores, minlength=n_bins)
    # Cells of probability 0 are in no chunk.
    cells[0] += int(targets.known_counts.sum()) - cells.sum()
    positives[0] += int(targets.positives.sum()) - positives.sum()
    return Reliability(cells, positives, probability)
