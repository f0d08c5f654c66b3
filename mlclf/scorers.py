"""Scorers: figures in the form of scikit-learn's ``scoring=``, for every form of Y."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlclf.calibration import expected_calibration_error
from mlclf.decision_metrics import Policy, count, decision_figures
from mlclf.exceptions import OptionsError
from mlclf.labels import LabelSpace, Targets
from mlclf.probabilities import checked_probabilities
from mlclf.quick_metrics import macro_f1, mean_average_precision, mean_of_defined, micro_f1
from mlclf.ranking_metrics import CUTOFFS, label_ranking_average_precision, row_figures


@dataclass(frozen=True)
class Scorer:
    """A figure as scikit-learn's ``scoring=`` wants it: a function of estimator, X and Y.

    Made by :func:`make_scorer`.

    Parameters
    ----------
    metric : callable
        Function of an indicator matrix or probabilities, and targets.
    needs : {"predict", "predict_proba"}
        Method of the estimator that gives the function its first argument.
    sign : int
        -1 for a loss: scikit-learn takes larger figures for better ones.
    """

    metric: Callable[[Any, Targets], float]
    needs: Literal["predict", "predict_proba"]
    sign: Literal[1, -1] = 1

    def __call__(self, estimator: Any, X: Any, Y: Any) -> float:
        """Return the figure of a fitted estimator on labelled texts.

        Parameters
        ----------
        estimator : object
            With ``classes_`` (label names in column order) and the method of ``needs``.
        X : sequence of str, length n_samples
        Y : label lists, indicator array, DataFrame or sparse matrix
            Labels unknown to the estimator are counted as missed, with a warning.

        Returns
        -------
        float
        """
        space = LabelSpace(tuple(np.asarray(estimator.classes_).tolist()))
        targets = space.encode(Y, unknown_labels="warn")
        return self.sign * self.metric(getattr(estimator, self.needs)(X), targets)


def make_scorer(
    metric: str | Callable[[Any, Targets], float], needs: Literal["predict", "predict_proba"] = "predict"
) -> Scorer:
    """Return an object for scikit-learn's ``scoring=`` that takes every form of Y.

    scikit-learn's own scorers refuse label lists, and misread multi-label probabilities where there are two labels.

    Parameters
    ----------
    metric : str or callable
        ``"micro_f1"``, ``"macro_f1"``, ``"weighted_f1"``, ``"samples_f1"``, ``"subset_accuracy"``,
        ``"neg_hamming_loss"``, ``"mean_average_precision"``, ``"label_ranking_average_precision"``,
        ``"precision_at_1"``, ``"precision_at_3"``, ``"precision_at_5"``, ``"neg_calibration_error"``; or a function of
        predictions and :class:`~mlclf.labels.Targets`.
    needs : {"predict", "predict_proba"}
        What a function gets as predictions; a name knows it by itself.

    Returns
    -------
    Scorer

    Raises
    ------
    OptionsError
        If there is no such figure.

    Examples
    --------
    >>> scorer = make_scorer("mean_average_precision")
    >>> scorer.needs
    'predict_proba'
    """
    if callable(metric):
        return Scorer(metric, needs)
    if metric not in SCORERS:
        raise OptionsError(f"metric must be a function or one of {', '.join(SCORERS)}, got {metric!r}.")
    return SCORERS[metric]


@dataclass(frozen=True)
class _Decided:
    """A figure of decisions by its path in :class:`DecisionFigures`; a class, because scorers are pickled."""

    path: str

    def __call__(self, predicted: Any, targets: Targets) -> float:
        value: Any = decision_figures(count(predicted, targets), Policy())
        for name in self.path.split("."):
            value = getattr(value, name)
        return float(value)


@dataclass(frozen=True)
class _PrecisionAt:
    """Precision at k; a class, because scorers are pickled."""

    k: int

    def __call__(self, probabilities: Any, targets: Targets) -> float:
        checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
        _, precision = row_figures(checked, targets, [self.k])
        return mean_of_defined(precision[0])


def _label_ranking(probabilities: Any, targets: Targets) -> float:
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    return label_ranking_average_precision(row_figures(checked, targets, ())[0], targets, Policy())


SCORERS = {
    "micro_f1": Scorer(micro_f1, "predict"),
    "macro_f1": Scorer(macro_f1, "predict"),
    "weighted_f1": Scorer(_Decided("weighted.f1"), "predict"),
    "samples_f1": Scorer(_Decided("samples.f1"), "predict"),
    "subset_accuracy": Scorer(_Decided("subset_accuracy"), "predict"),
    "neg_hamming_loss": Scorer(_Decided("hamming_loss"), "predict", sign=-1),
    "mean_average_precision": Scorer(mean_average_precision, "predict_proba"),
    "label_ranking_average_precision": Scorer(_label_ranking, "predict_proba"),
    **{f"precision_at_{k}": Scorer(_PrecisionAt(k), "predict_proba") for k in CUTOFFS},
    "neg_calibration_error": Scorer(expected_calibration_error, "predict_proba", sign=-1),
}
