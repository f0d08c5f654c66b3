"""Figures of a ranking, which need no threshold: average precision by label and by row, precision at k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlclf.decision_metrics import Policy
from mlclf.probabilities import Probabilities
from mlclf.ranked_cells import Cells, cell_chunks, row_chunks
from mlclf.targets import Targets

# Numbers of labels at which reports take precision.
CUTOFFS = (1, 3, 5)


def average_precisions(probabilities: Probabilities, targets: Targets) -> NDArray[np.float64]:
    """Return the average precision of each label.

    Texts are ranked by a label's probability; its average precision is the mean, over the texts to which it applies,
    of the precision down to that text. Texts of equal probability share the last of their ranks.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are left out.

    Returns
    -------
    ndarray of float64, shape (n_labels,)
        NaN where a label applies to no text.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], [], ["a"]])
    >>> p = np.array([[0.9, 0.1], [0.5, 0.2], [0.5, 0.3]], dtype=np.float32)
    >>> average_precisions(p, targets).round(3).tolist()
    [0.833, nan]
    """
    out = np.full(targets.n_labels, np.nan)
    for cells in cell_chunks(probabilities, targets):
        out[cells.columns] = _average_precision(cells.ranked(), targets.known_counts[cells.columns])
    return out


def row_figures(
    probabilities: Probabilities, targets: Targets, cutoffs: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return average precision and precision at k of each row.

    The average precision of a row ranks its labels. Its mean over all rows is the label ranking average precision
    (Tsoumakas et al., 2010, "Mining multi-label data").

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are left out.
    cutoffs : sequence of int, length n_cutoffs
        Numbers of labels k at which precision is taken.

    Returns
    -------
    average_precision : ndarray of float64, shape (n_samples,)
    precision_at : ndarray of float64, shape (n_cutoffs, n_samples)
        Share of true labels among the k most probable ones, or among all known ones where they are fewer. Among equal
        probabilities, labels that do not apply come first: a tie never speaks for a model.
        Both are NaN for a row without true labels.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b", "c")).encode([["a", "b"], []])
    >>> average, precision = row_figures(np.array([[0.9, 0.1, 0.5], [0, 0, 1]], dtype=np.float32), targets, [1, 2])
    >>> average.round(3).tolist(), precision.tolist()
    ([0.833, nan], [[1.0, nan], [0.5, nan]])
    """
    known = _known_per_row(targets)
    average = np.full(len(targets), np.nan)
    precision = np.full((len(cutoffs), len(targets)), np.nan)
    for cells in row_chunks(probabilities, targets):
        ranked = cells.ranked()
        average[cells.columns] = _average_precision(ranked, known[cells.columns])
        ranks, owners = _ranks(ranked)[ranked.truth], ranked.owners[ranked.truth]
        for i, k in enumerate(cutoffs):
            found = np.bincount(owners[ranks <= k], minlength=cells.n_columns)
            precision[i, cells.columns] = found / np.clip(known[cells.columns], 1, k)
    precision[:, np.isnan(average)] = np.nan
    return average, precision


def label_ranking_average_precision(average: NDArray[np.float64], targets: Targets, policy: Policy) -> float:
    """Return the mean average precision of rows.

    Parameters
    ----------
    average : ndarray of float64, shape (n_samples,)
        As :func:`row_figures` returns it.
    targets : Targets
    policy : Policy
        Says what a row without true labels counts.

    Returns
    -------
    float
        Over the rows of which some cell is known; NaN where there are none.
    """
    counted = _known_per_row(targets) > 0
    values = np.where(np.isnan(average), policy.empty_rows, average)[counted]
    return float(values.mean()) if len(values) else float("nan")


def _known_per_row(targets: Targets) -> NDArray[np.int64]:
    known = np.full(len(targets), targets.n_labels, dtype=np.int64)
    return known if targets.unknown is None else known - np.diff(targets.unknown.indptr)


def _average_precision(cells: Cells, known: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the average precision of each label of some ranked cells."""
    positives = cells.positives.sum(axis=1)
    found = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(cells.truth)])
    places = np.flatnonzero(cells.truth)
    owners = cells.owners[places]
    last = _tie_ends(cells)[places]
    starts = cells.starts[:-1][owners]
    precision = (found[last + 1] - found[starts]) / (last + 1 - starts)
    total = np.bincount(owners, weights=precision, minlength=cells.n_columns)
    # Positives of probability 0 are ranked last, level with everything that is left.
    stored = np.bincount(owners, minlength=cells.n_columns)
    total = total + (positives - stored) * positives / np.maximum(known, 1)
    return np.where(positives > 0, total / np.maximum(positives, 1), np.nan)


def _tie_ends(cells: Cells) -> NDArray[np.int64]:
    """Return, for each ranked cell, where the cells of its label with the same probability end."""
    keys = cells.tie_keys
    ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)) if len(keys) else np.zeros(0, dtype=np.int64)
    return np.repeat(ends, np.diff(ends, prepend=-1))


def _ranks(cells: Cells) -> NDArray[np.int64]:
    """Return the rank of each ranked cell within its label, from 1."""
    return np.arange(1, len(cells.packed) + 1) - np.repeat(cells.starts[:-1], np.diff(cells.starts))
