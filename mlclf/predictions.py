"""Prediction: what a fitted estimator answers, in each of its forms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import sklearn.exceptions
from numpy.typing import NDArray

from mlclf.decisions import checked_k
from mlclf.exceptions import NotFittedError
from mlclf.inputs import checked_weights
from mlclf.labels import Targets
from mlclf.metrics import score as score_probabilities
from mlclf.model import Model
from mlclf.report import Report
from mlclf.report_details.details import check_error_texts, make_details
from mlclf.texts import as_texts
from mlclf.thresholds import Thresholds, as_thresholds

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class _NotFitted(NotFittedError, sklearn.exceptions.NotFittedError):  # type: ignore[misc]  # no types
    """Not fitted, for users of mlclf and of scikit-learn alike."""


class PredictionMixin:
    """Prediction and evaluation with ``model_``, the model that a fit or a load left behind."""

    model_: Model
    thresholds_: Thresholds

    def predict(self, X: Any, thresholds: Any = None) -> Any:
        """Return which labels apply.

        Parameters
        ----------
        X : sequence of str, length n_samples
        thresholds : float, dict, array, Thresholds or None
            Used for this call instead of the fitted ones: one number, ``{label: number}`` (others as fitted), one
            number a label, or an object.

        Returns
        -------
        ndarray or sparse matrix, shape (n_samples, n_labels)
            1 where the label applies, in the type that Y had in ``fit``; int8 where Y was label lists.
        """
        model = self._fitted()
        return model.y_format.restore(model.indicator(as_texts(X), self._thresholds(thresholds)))

    def predict_labels(self, X: Any, top_k: int | None = None, thresholds: Any = None) -> list[tuple[Any, ...]]:
        """Return the label set of each text.

        Parameters
        ----------
        X : sequence of str, length n_samples
        top_k : int or None
            Keep at most this many labels of those that apply, the most probable ones.
        thresholds : float, dict, array, Thresholds or None
            As in :meth:`predict`.

        Returns
        -------
        list of tuple, length n_samples
            Label names in column order; an empty tuple where no label applies.
        """
        model = self._fitted()
        chosen = self._thresholds(thresholds)
        if top_k is not None:
            chosen = chosen.limited(top_k)
        return model.labels.decode(model.indicator(as_texts(X), chosen))

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return marginal probabilities.

        Parameters
        ----------
        X : sequence of str, length n_samples

        Returns
        -------
        ndarray of float32, shape (n_samples, n_labels)
            Cell ``[i, j]`` is the probability that label ``classes_[j]`` applies to text ``i``.
        """
        return self._fitted().probabilities(as_texts(X))

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Return the log-odds of the probabilities, float32 ``(n_samples, n_labels)``."""
        edge = np.finfo(np.float32).tiny
        p = self.predict_proba(X).astype(np.float64)
        return (np.log(np.maximum(p, edge)) - np.log(np.maximum(1.0 - p, 2.0**-40))).astype(np.float32)

    def predict_topk(self, X: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` most probable labels of each text, without building the full matrix.

        Parameters
        ----------
        X : sequence of str, length n_samples
        k : int
            Between 1 and ``n_labels_``.

        Returns
        -------
        indices : ndarray of int64, shape (n_samples, k)
            Columns (positions in ``classes_``), most probable first.
        probabilities : ndarray of float32, shape (n_samples, k)

        Raises
        ------
        OptionsError
            If ``k`` is out of range.
        """
        model = self._fitted()
        k = checked_k(k, model.labels.n_labels)
        return model.top(as_texts(X), k)

    def evaluate(self, X: Any, Y: Any, *, error_texts: int = 0) -> Report:
        """Compare predictions with true labels.

        Parameters
        ----------
        X : sequence of str, length n_samples
        Y : label lists, indicator array, DataFrame or sparse matrix
            Labels unknown to the model are counted as missed, with a warning.
        error_texts : int, default=0
            Number of rows, those in which wrong decisions cost most, whose texts the report keeps, to be shown by
            ``to_html``.

        Returns
        -------
        Report
            Figures at 0.5 and at the fitted thresholds, and a row for each label; ``print`` it, or write a page with
            ``to_html("report.html")``.
        """
        model = self._fitted()
        check_error_texts(error_texts)
        texts = as_texts(X)
        targets = model.labels.encode(Y, unknown_labels="warn", n_samples=len(texts))
        probabilities = model.bounded_probabilities(texts, targets)
        report = score_probabilities(probabilities, targets, model.thresholds, names=model.labels.names)
        details = make_details(probabilities, targets, model.thresholds, texts=texts, error_texts=error_texts)
        return replace(report, details=details)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return subset accuracy: the share of texts whose whole label set is right (scikit-learn's definition).

        Parameters
        ----------
        X : sequence of str, length n_samples
        y : label lists, indicator array, DataFrame or sparse matrix
        sample_weight : array-like of float, shape (n_samples,), or None

        Returns
        -------
        float
            Between 0 and 1.
        """
        model = self._fitted()
        texts = as_texts(X)
        targets = model.labels.encode(y, unknown_labels="warn", n_samples=len(texts))
        wrong = _differing_rows(model.indicator(texts, model.thresholds), targets)
        if targets.dropped_per_row is not None:
            wrong |= targets.dropped_per_row > 0
        return float(np.average(~wrong, weights=checked_weights(sample_weight, len(texts))))

    def set_thresholds(self, thresholds: Any) -> Self:
        """Change the fitted thresholds without fitting again.

        Parameters
        ----------
        thresholds : float, dict, array or Thresholds
            As in :meth:`predict`.

        Returns
        -------
        self
        """
        model = self._fitted()
        model.thresholds = self.thresholds_ = self._thresholds(thresholds)
        return self

    def _fitted(self) -> Model:
        if not hasattr(self, "model_"):
            raise _NotFitted(
                "This MultiLabelClassifier is not fitted yet. Call fit(X, Y), or MultiLabelClassifier.load(folder)."
            )
        return self.model_

    def _thresholds(self, given: Any) -> Thresholds:
        model = self._fitted()
        return model.thresholds if given is None else as_thresholds(given, model.labels.names, model.thresholds)


def _differing_rows(indicator: csr_array, targets: Targets) -> NDArray[np.bool_]:
    """Tell which rows differ from their targets in a known cell, bool ``(n_samples,)``."""
    differing = abs(indicator - targets.indicator)
    if targets.unknown is not None:
        differing = differing - differing.multiply(targets.unknown)
    return np.asarray(differing.sum(axis=1)).ravel() > 0
