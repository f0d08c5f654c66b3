"""Checks of the estimator around a component, on texts: what scikit-learn's own checks cannot ask."""

from __future__ import annotations

import pickle

import numpy as np

from mlclf.exceptions import ConformanceError
from mlclf.testing.conformance.workbench import Workbench
from mlclf.testing.fakes import tiny_texts


def check_estimator_can_be_cloned(bench: Workbench) -> None:
    """A clone of the estimator has the same parameters and is not fitted."""
    from sklearn.base import clone

    fitted = bench.fitted()
    copy = clone(fitted)
    if copy.get_params(deep=False) != fitted.get_params(deep=False):
        raise ConformanceError("sklearn.base.clone changes the parameters.")
    if hasattr(copy, "model_"):
        raise ConformanceError("A clone is fitted.")


def check_estimator_can_be_pickled(bench: Workbench) -> None:
    """A fitted estimator can be pickled, as searches in several processes do, with the same answers."""
    fitted, texts = bench.fitted(), tiny_texts(6, seed=3)
    try:
        twin = pickle.loads(pickle.dumps(fitted))  # noqa: S301  # bytes made right here
    except Exception as error:
        raise ConformanceError(
            f"The fitted estimator cannot be pickled ({type(error).__name__}: {error}). Keep no lambdas, local "
            "classes, generators or open files in the component, and define modules at the top of a file."
        ) from error
    if not np.array_equal(twin.predict_proba(texts), fitted.predict_proba(texts)):
        raise ConformanceError("The estimator answers differently after pickling.")


def check_forms_of_texts(bench: Workbench) -> None:
    """Lists, tuples and arrays of texts get the same answers, and one text the same as among others."""
    fitted, texts = bench.fitted(), tiny_texts(6, seed=3)
    expected = fitted.predict_proba(texts)
    for form in (tuple(texts), np.array(texts), np.array(texts, dtype=object)):
        if not np.array_equal(fitted.predict_proba(form), expected):
            raise ConformanceError(f"Texts given as {type(form).__name__} get other answers than a list.")
    alone = np.concatenate([fitted.predict_proba([text]) for text in texts])
    if np.abs(alone - expected).max() > 1e-5:
        raise ConformanceError("A text alone gets another answer than among others.")


def check_predictions_agree(bench: Workbench) -> None:
    """Indicator, label names and the most probable labels say the same as the probabilities."""
    fitted, texts = bench.fitted(), tiny_texts(6, seed=3)
    indicator, probabilities = np.asarray(fitted.predict(texts)), fitted.predict_proba(texts)
    names = [tuple(fitted.classes_[row == 1]) for row in indicator]
    if [set(row) for row in fitted.predict_labels(texts)] != [set(row) for row in names]:
        raise ConformanceError("predict_labels names other labels than predict marks.")
    columns, values = fitted.predict_topk(texts, 2)
    if not np.allclose(values, np.take_along_axis(probabilities, columns, axis=1), atol=1e-6):
        raise ConformanceError("predict_topk gives other probabilities than predict_proba.")
