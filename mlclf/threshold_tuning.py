"""A threshold for each label, tuned on validation rows such that rare labels do not upset it.

Maximising each label's own F1 raises macro-F1, but a label that is hard to predict reaches its best F1 by predicting
far too often, and its false positives ruin micro-F1; and a label with few positives fits its threshold to chance (Fan
and Lin, 2007, "A study on threshold selection for multi-label classification"). Three things are done about it:

1. *Both averages count.* A label's threshold maximises its F1, its share in macro-F1, plus what it adds to micro-F1.
   Micro-F1 does not split into labels, but near the optimum ``F*`` of the global threshold it changes, to first order,
   by ``(2 TP - F* predicted) / (predicted* + positive)`` for each label, the step of Dinkelbach's (1967) method for
   ratios.
2. *The middle of the plateau.* F1 as a function of the threshold is a jagged curve; the threshold is the middle, in
   log-odds, of all cuts within 10 % of the best one rather than the best one itself.
3. *Shrinkage.* In log-odds, the threshold is moved towards the global one: a label with ``n`` positive validation
   cells keeps the share ``n / (n + k)`` of its distance. A label without positives takes the global threshold.

``k`` is chosen by 5-fold cross-validation inside the validation rows, among a few values up to infinity (the global
threshold itself): the one with the largest sum of micro-F1 and macro-F1 among those whose micro-F1 is at most half a
point below the global threshold's. Folds are dealt deterministically, so equal rows give equal thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.global_threshold import GlobalOptimum, global_optima
from mlclf.probabilities import Probabilities, log_odds, sigmoid
from mlclf.ranked_cells import Cells, cell_chunks
from mlclf.targets import Targets

N_FOLDS = 5

# Positives at which a label keeps half of its distance from the global threshold; strongest shrinkage first.
SHRINKAGES = (np.inf, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)

# Micro-F1 that a threshold for each label may cost in cross-validation.
MICRO_LOSS = 0.005

PLATEAU = 0.1

# Fewer rows than this cannot say how much to shrink: the global threshold serves all labels.
_FEWEST_ROWS = 2 * N_FOLDS


@dataclass(frozen=True)
class PerLabel:
    """Thresholds for each label, and how they were found.

    Parameters
    ----------
    values : ndarray of float32, shape (n_labels,)
    shrinkage : float
        The ``k`` that cross-validation chose; infinite where the global threshold serves all labels.
    """

    values: NDArray[np.float32]
    shrinkage: float


def tune_per_label(
    probabilities: Probabilities, targets: Targets, shrinkages: tuple[float, ...] = SHRINKAGES
) -> PerLabel:
    """Find a threshold for each label; the module's text says how.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape.
    shrinkages : tuple of float
        Values of ``k`` to choose from, the largest first; a single one is taken as it is.

    Returns
    -------
    PerLabel

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> rows = [["a"], ["a", "b"], [], []] * 5
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.1], [0.3, 0.0]] * 5, dtype=np.float32)
    >>> found = tune_per_label(p, LabelSpace(("a", "b")).encode(rows))
    >>> (p >= found.values).sum(axis=0).tolist()
    [10, 5]
    """
    folds = deal_folds(targets)
    # One optimum for the rows outside each fold, and one for all rows.
    optima = global_optima(probabilities, targets, folds)
    whole = optima[-1]
    if len(targets) < _FEWEST_ROWS or not targets.positives.any():
        return PerLabel(np.full(targets.n_labels, whole.threshold, dtype=np.float32), np.inf)
    k = shrinkages[0]
    if len(shrinkages) > 1:
        k = _choose_shrinkage(probabilities, targets, folds, optima, shrinkages)
    values = np.empty(targets.n_labels, dtype=np.float32)
    for cells in cell_chunks(probabilities, targets):
        cuts = best_cuts(cells.ranked(), cells.positives.sum(axis=1), whole)
        values[cells.columns] = shrink(cuts, cells.positives.sum(axis=1), whole, k)
    return PerLabel(values, float(k))


def deal_folds(targets: Targets) -> NDArray[np.uint8]:
    """Deal the rows into folds such that the positives of rare labels are spread over them.

    Rows are sorted by their rarest label, in random order within it, and dealt like cards.

    Returns
    -------
    ndarray of uint8, shape (n_samples,)
        Fold of each row; the same at every call.
    """
    indicator = targets.indicator
    counts = np.append(targets.positives[indicator.indices], len(targets) + 1)
    # reduceat gives a row without labels the value at its start: overwritten below.
    rarest = np.minimum.reduceat(counts, np.minimum(indicator.indptr[:-1], len(counts) - 1))
    rarest[np.diff(indicator.indptr) == 0] = len(targets) + 1
    order = np.lexsort((np.random.default_rng(0).random(len(targets)), rarest))
    folds = np.empty(len(targets), dtype=np.uint8)
    folds[order] = np.arange(len(targets)) % N_FOLDS
    return folds


def best_cuts(cells: Cells, positives: NDArray[np.int64], optimum: GlobalOptimum) -> NDArray[np.float64]:
    """Return, for each label, the middle of the plateau of its objective, in log-odds.

    Parameters
    ----------
    cells : Cells
        Ranked.
    positives : ndarray of int64, shape (n_columns,)
        Positive cells of each label.
    optimum : GlobalOptimum
        Around which micro-F1 is taken to first order.

    Returns
    -------
    ndarray of float64, shape (n_columns,)
        The global threshold where a label has no positive cell, or none of probability above 0.
    """
    cuts = np.full(cells.n_columns, float(log_odds(optimum.threshold)))
    used = (np.diff(cells.starts) > 0) & (positives > 0)
    cells = cells.select(np.repeat(used, np.diff(cells.starts)))
    if not len(cells.packed):
        return cuts
    starts = cells.starts[:-1][used]
    owners = np.cumsum(used)[cells.owners] - 1
    odds, widths = _intervals(cells, starts)
    value = _objective(cells, starts, owners, positives[used], optimum)
    value[widths == 0] = -np.inf
    best = np.maximum.reduceat(value, starts)
    weight = np.where(value >= (best - PLATEAU * np.abs(best))[owners], widths, 0)
    cuts[used] = np.add.reduceat(weight * (odds - widths / 2), starts) / np.add.reduceat(weight, starts)
    return cuts


def shrink(
    cuts: NDArray[np.float64], positives: NDArray[np.int64], optimum: GlobalOptimum, k: float
) -> NDArray[np.float32]:
    """Return thresholds: the cuts moved towards the global threshold by how little evidence there is."""
    share = np.zeros(len(cuts)) if np.isinf(k) else positives / np.maximum(positives + k, 1e-9)
    middle = float(log_odds(optimum.threshold))
    moved = sigmoid(middle + share * (cuts - middle))
    return np.where(share > 0, moved, optimum.threshold).astype(np.float32)


def _intervals(cells: Cells, starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log-odds of each cell and the distance to the next lower cell of its label.

    A width of 0 marks cells that tie with the next. Below the last cell of a label there is nothing to fall into: its
    width is next to nothing, so that it weighs only where no other cut is as good.
    """
    odds = log_odds(cells.scores)
    widths = np.append(odds[:-1] - odds[1:], 0.0)
    last = np.append(starts[1:], len(odds)) - 1
    widths[last] = 1e-3
    return odds, widths


def _objective(
    cells: Cells,
    starts: NDArray[np.int64],
    owners: NDArray[np.int64],
    positives: NDArray[np.int64],
    optimum: GlobalOptimum,
) -> NDArray[np.float64]:
    """Return F1 plus the first-order gain in micro-F1 of predicting each cell and all better ones."""
    found = np.concatenate([np.zeros(1), np.cumsum(cells.truth)])
    hits = found[1:] - found[starts][owners]
    predicted = np.arange(1, len(owners) + 1) - starts[owners]
    f1 = 2 * hits / (predicted + positives[owners])
    # Micro-F1 is one average and macro-F1 the mean of n_labels: n_labels times the gain puts both on one scale.
    return np.asarray(f1 + len(positives) * (2 * hits - optimum.f1 * predicted) / optimum.size)


def _choose_shrinkage(
    probabilities: Probabilities,
    targets: Targets,
    folds: NDArray[np.uint8],
    optima: list[GlobalOptimum],
    shrinkages: tuple[float, ...],
) -> float:
    """Return the shrinkage with the best cross-validated sum of micro-F1 and macro-F1 that costs little micro-F1."""
    hits, predicted = np.zeros((2, len(shrinkages), targets.n_labels))
    for chunk in cell_chunks(probabilities, targets, folds):
        for fold, cells, held_out in _splits(chunk.ranked(), len(optima) - 1):
            positives = chunk.positives.sum(axis=1) - chunk.positives[:, fold]
            cuts = best_cuts(cells, positives, optima[fold])
            for i, k in enumerate(shrinkages):
                thresholds = shrink(cuts, positives, optima[fold], k)
                chosen = held_out.scores >= thresholds[held_out.owners]
                predicted[i, chunk.columns] += np.bincount(held_out.owners[chosen], minlength=chunk.n_columns)
                chosen &= held_out.truth
                hits[i, chunk.columns] += np.bincount(held_out.owners[chosen], minlength=chunk.n_columns)
    known = targets.positives > 0
    micro = 2 * hits.sum(axis=1) / (predicted.sum(axis=1) + targets.positives.sum())
    macro = (2 * hits[:, known] / (predicted[:, known] + targets.positives[known])).mean(axis=1)
    return shrinkages[int(np.argmax(np.where(micro >= micro[0] - MICRO_LOSS, micro + macro, -1)))]


def _splits(chunk: Cells, n_folds: int) -> Iterator[tuple[int, Cells, Cells]]:
    """Yield each fold with the ranked cells outside and inside it."""
    groups = chunk.groups
    for fold in range(n_folds):
        inside = groups == fold
        yield fold, chunk.select(~inside), chunk.select(inside)
