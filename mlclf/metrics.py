"""Metrics: the report on a model's probabilities; single figures and scorers for scikit-learn beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.calibration import expected_calibration_error
from mlclf.decision_metrics import Policy, count, decision_figures
from mlclf.exceptions import InvalidInputError
from mlclf.probabilities import Probabilities, checked_probabilities
from mlclf.quick_metrics import macro_f1, mean_average_precision, mean_of_defined, micro_f1
from mlclf.ranking_metrics import CUTOFFS, average_precisions, label_ranking_average_precision, row_figures
from mlclf.report import RankingFigures, Report
from mlclf.scorers import Scorer, make_scorer
from mlclf.targets import Targets
from mlclf.thresholds import Thresholds

__all__ = ["Policy", "Report", "Scorer", "macro_f1", "make_scorer", "mean_average_precision", "micro_f1", "score"]


def score(
    probabilities: Any,
    targets: Targets,
    thresholds: Thresholds,
    *,
    names: Sequence[str | int] | None = None,
    policy: Policy | None = None,
) -> Report:
    """Report how well probabilities and the labels decided from them agree with the truth.

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
        Marginal probabilities; a cell that a sparse matrix does not store has probability 0.
    targets : Targets
        Of the same shape; unknown cells are left out of every figure.
    thresholds : Thresholds
        The model's own; the report has all figures at 0.5 as well.
    names : sequence of str or int, length n_labels, optional
        Label names in column order; column numbers without it.
    policy : Policy, optional
        What counts where a figure is not defined; the report prints it.

    Returns
    -------
    Report

    Raises
    ------
    InvalidInputError
        If shapes differ, or a probability is NaN or outside 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> from mlclf.thresholds import Thresholds
    >>> space = LabelSpace(("anger", "joy"))
    >>> targets = space.encode([["joy"], ["anger", "joy"], []])
    >>> report = score(np.array([[0.1, 0.9], [0.4, 0.8], [0.2, 0.6]]), targets, Thresholds.fixed(2), names=space.names)
    >>> report.micro_f1.__round__(3), report.mean_average_precision
    (0.667, 1.0)
    """
    policy = policy or Policy()
    names = tuple(range(targets.n_labels)) if names is None else tuple(names)
    if len(names) != targets.n_labels:
        raise InvalidInputError(f"names must be one for each of {targets.n_labels} labels, got {len(names)}.")
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    thresholds = thresholds.for_labels(targets.n_labels)
    tuned = count(thresholds.apply(checked), targets)
    half = count(Thresholds.fixed(targets.n_labels).apply(checked), targets)
    precisions = average_precisions(checked, targets)
    return Report(
        names=names,
        n_samples=len(targets),
        n_unknown=0 if targets.unknown is None else targets.unknown.nnz,
        n_dropped=targets.dropped,
        n_empty=int(((tuned.row_positives == 0) & (tuned.row_known > 0)).sum()),
        support=targets.positives,
        thresholds=thresholds.values,
        rule=thresholds.rule,
        top_k=thresholds.top_k,
        tuned=decision_figures(tuned, policy),
        at_half=decision_figures(half, policy),
        average_precision=precisions,
        ranking=_ranking(checked, targets, precisions, policy),
        policy=policy,
    )


def _ranking(
    probabilities: Probabilities, targets: Targets, precisions: NDArray[np.float64], policy: Policy
) -> RankingFigures:
    average, precision = row_figures(probabilities, targets, CUTOFFS)
    return RankingFigures(
        mean_average_precision=mean_of_defined(precisions),
        label_ranking_average_precision=label_ranking_average_precision(average, targets, policy),
        precision_at={k: mean_of_defined(values) for k, values in zip(CUTOFFS, precision, strict=True)},
        calibration_error=expected_calibration_error(probabilities, targets),
    )
