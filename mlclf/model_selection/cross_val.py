"""Predictions of every row by a model that has not seen it, with one column a label in every fold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.labels import LabelSpace, YFormat, to_indicator, y_format
from mlclf.model_selection.rows import indexable, n_rows, take
from mlclf.model_selection.splits import MultilabelStratifiedKFold

Method = Literal["predict_proba", "decision_function", "predict", "predict_labels"]


def cross_val_predict(
    estimator: Any,
    X: Any,
    Y: Any,
    *,
    cv: Any = 5,
    method: Method = "predict_proba",
    params: Mapping[str, Any] | None = None,
) -> Any:
    """Predict each row with a model fitted on the other folds.

    scikit-learn's function of this name codes each column of Y anew in every fold, so that a label which always
    applies comes out as one which never does, and refuses label lists and sparse Y. Here columns are those of one
    label space throughout.

    Parameters
    ----------
    estimator : estimator
        Cloned for each fold. One with a parameter ``classes`` that is None gets all labels of Y there; one without
        it, such as a pipeline of scikit-learn, gets label lists as an indicator frame.
    X : sequence of str, length n_samples
    Y : label lists, array, DataFrame or sparse matrix
        Any form of :meth:`mlclf.labels.LabelSpace.infer`.
    cv : int, splitter or iterable of (train_rows, test_rows), default=5
        A number means :class:`MultilabelStratifiedKFold`. Every row must be in exactly one test part.
    method : {"predict_proba", "decision_function", "predict", "predict_labels"}
        What to call on the fitted estimator.
    params : mapping of str to array-like, length n_samples, optional
        Further arguments of ``fit``, divided like the rows: ``{"sample_weight": weights}``.

    Returns
    -------
    ndarray of float, shape (n_samples, n_labels)
        For ``predict_proba`` and ``decision_function``.
    ndarray or CSR, shape (n_samples, n_labels)
        For ``predict``, of the type that Y has, int8 for label lists.
    list of tuple
        For ``predict_labels``.

    Raises
    ------
    InvalidInputError
        If Y has none of the forms, ``cv`` leaves rows out or repeats them, or the estimator does not give one column
        for each label.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn.pipeline import make_pipeline
    >>> pipeline = make_pipeline(CountVectorizer(), OneVsRestClassifier(MultinomialNB()))
    >>> texts, labels = ["so glad", "oh no", "glad glad", "oh oh"], [["joy"], ["fear"], ["joy"], ["fear"]]
    >>> cross_val_predict(pipeline, texts, labels, cv=2, method="predict").tolist()
    [[0, 1], [1, 0], [0, 1], [1, 0]]
    """
    from sklearn.base import clone

    X, form = indexable(X), y_format(Y)
    space = LabelSpace.infer(Y, estimator.get_params().get("classes"))
    space.encode(Y, n_samples=n_rows(X))
    template, Y = _with_fixed_columns(clone(estimator), Y, space, form)
    extra = {name: indexable(value) for name, value in (params or {}).items()}
    # All folds are made first: a splitter that leaves rows out is an error before anything is fitted.
    folds = _folds(cv, X, Y)
    order = _order([test for _, test in folds], n_rows(X))
    parts = []
    for train, test in folds:
        params_of_fold = {name: take(value, train) for name, value in extra.items()}
        fitted = clone(template).fit(take(X, train), take(Y, train), **params_of_fold)
        parts.append(_checked(getattr(fitted, method)(take(X, test)), (len(test), space.n_labels), method))
    return _in_order(parts, order, method, form)


def _with_fixed_columns(estimator: Any, Y: Any, space: LabelSpace, form: YFormat) -> tuple[Any, Any]:
    """Return estimator and Y such that every fold sees the same columns."""
    if form.kind != "rows":
        return estimator, indexable(Y)
    parameters = estimator.get_params()
    if "classes" not in parameters:
        return estimator, to_indicator(Y, space.names)
    if parameters["classes"] is None:
        estimator.set_params(classes=list(space.names))
    return estimator, indexable(Y)


def _folds(cv: Any, X: Any, Y: Any) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    if isinstance(cv, (int, np.integer)):
        cv = MultilabelStratifiedKFold(int(cv))
    folds = cv.split(X, Y) if hasattr(cv, "split") else cv
    return [(np.asarray(train), np.asarray(test)) for train, test in folds]


def _checked(part: Any, shape: tuple[int, int], method: Method) -> Any:
    """Return a fold's predictions if they have one row a text and one column a label."""
    if method == "predict_labels" or getattr(part, "shape", None) == shape:
        return part
    got = f"shape {part.shape}" if hasattr(part, "shape") else f"a {type(part).__name__}"
    raise InvalidInputError(
        f"{method} must give shape {shape}, one column for each label, got {got}. "
        "Wrap the estimator in sklearn.multiclass.OneVsRestClassifier."
    )


def _order(tests: list[NDArray[np.int64]], n_samples: int) -> NDArray[np.int64]:
    """Return where each row stands in the test parts put one after the other."""
    rows = np.concatenate(tests)
    if not np.array_equal(np.sort(rows), np.arange(n_samples)):
        raise InvalidInputError(
            f"cv must test each of the {n_samples} rows exactly once, got {len(rows)} test rows, "
            f"{len(np.unique(rows))} of them different. Use a KFold, not repeated or random splits."
        )
    return np.argsort(rows)


def _in_order(parts: list[Any], order: NDArray[np.int64], method: Method, form: YFormat) -> Any:
    """Return the predictions of all folds, rows in the order of X."""
    if method == "predict_labels":
        label_sets = list(chain.from_iterable(parts))
        return [label_sets[place] for place in order]
    if isinstance(parts[0], np.ndarray):
        stacked = np.concatenate(parts)[order]
    else:
        from scipy.sparse import vstack

        stacked = vstack(parts, format="csr")[order]
    return form.restore(stacked) if method == "predict" else stacked
