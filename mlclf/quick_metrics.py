"""Single figures as plain functions, for the training loop and wherever a whole report is too much."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.decision_metrics import Policy, count, label_figures, micro_average
from mlclf.labels import Targets
from mlclf.probabilities import checked_probabilities
from mlclf.ranking_metrics import average_precisions


def micro_f1(predicted: Any, targets: Targets) -> float:
    """Return F1 over all known cells.

    Parameters
    ----------
    predicted : array-like or sparse matrix, shape (n_samples, n_labels)
        Indicator matrix.
    targets : Targets

    Returns
    -------
    float
        0 where there is neither a true nor a predicted label.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> micro_f1([[1, 1], [0, 1]], LabelSpace(("a", "b")).encode([["a"], ["b"]]))
    0.8
    """
    return micro_average(count(predicted, targets), Policy()).f1


def macro_f1(predicted: Any, targets: Targets) -> float:
    """Return the mean F1 of the labels of which some cell is known.

    Parameters
    ----------
    predicted : array-like or sparse matrix, shape (n_samples, n_labels)
        Indicator matrix.
    targets : Targets

    Returns
    -------
    float
        A label that is neither true nor predicted anywhere counts 0; NaN where no cell is known.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> macro_f1([[1, 1], [0, 1]], LabelSpace(("a", "b")).encode([["a"], ["b"]])).__round__(3)
    0.833
    """
    counts = count(predicted, targets)
    f1 = label_figures(counts, Policy()).f1[counts.known > 0]
    return float(f1.mean()) if len(f1) else float("nan")


def mean_average_precision(probabilities: Any, targets: Targets) -> float:
    """Return the mean average precision of the labels that apply to some row.

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
    targets : Targets

    Returns
    -------
    float
        NaN where no label applies to any row.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> mean_average_precision([[0.9, 0.5], [0.5, 0.9]], LabelSpace(("a", "b")).encode([["a"], ["a"]]))
    1.0
    """
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    return mean_of_defined(average_precisions(checked, targets))


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; NaN where there are none.

    Examples
    --------
    >>> mean_of_defined(np.array([1.0, np.nan, 2.0]))
    1.5
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
