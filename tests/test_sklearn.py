"""scikit-learn's tools around the estimator: clone, search, cross-validation, pipelines, its own checks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from toy import WordBackbone, WordOptions, toy_classifier, toy_rows

from mlclf import BertOptions, LoraOptions, MultiLabelClassifier, TrainingOptions, register_backbone, to_indicator
from mlclf.exceptions import OptionsError


@pytest.fixture
def rows() -> tuple[list[str], np.ndarray]:
    texts, labels = toy_rows(48)
    return texts, to_indicator(labels).to_numpy()


def test_clone_keeps_every_parameter_object(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, LoraOptions(r=4), classes=["a", "b"])
    copy = clone(clf)
    assert copy.get_params(deep=False) == clf.get_params(deep=False)
    assert copy.strategy is clf.strategy


def test_nested_parameters_are_read_and_set() -> None:
    clf = MultiLabelClassifier()
    clf.set_params(strategy__r=4, training__epochs=7, backbone__max_length=64, head__dropout=0.5)
    assert clf.strategy == LoraOptions(r=4)
    assert clf.training == TrainingOptions(epochs=7)
    params = clf.get_params()
    assert (params["strategy__r"], params["training__epochs"]) == (4, 7)


def test_setting_an_option_never_changes_the_callers_object() -> None:
    options = LoraOptions(r=4)
    MultiLabelClassifier(strategy=options).set_params(strategy__r=8)
    assert options.r == 4


def test_a_component_and_its_options_can_be_set_at_once() -> None:
    clf = MultiLabelClassifier(strategy="full").set_params(strategy__r=2, strategy="lora")
    assert clf.strategy == LoraOptions(r=2)


def test_an_unknown_option_is_named_with_those_that_exist() -> None:
    with pytest.raises(OptionsError, match=r"LoraOptions has no option 'rank'.*alpha"):
        MultiLabelClassifier().set_params(strategy__rank=4)
    with pytest.raises(OptionsError, match="'verbose' has no options"):
        MultiLabelClassifier().set_params(verbose__x=4)


@pytest.mark.parametrize("verbose", [0])
def test_grid_search_over_nested_options(tiny_bert: Path, rows: Any, verbose: int) -> None:
    search = GridSearchCV(
        toy_classifier(tiny_bert, "lora", epochs=1), {"strategy__r": [2, 4], "training__epochs": [1]},
        scoring="f1_micro", cv=2, verbose=verbose,
    )  # fmt: skip
    search.fit(*rows)
    assert search.best_params_["strategy__r"] in (2, 4)
    assert search.predict(rows[0]).shape == rows[1].shape


def test_grid_search_over_strategies(tiny_bert: Path, rows: Any) -> None:
    grid = [{"strategy": ["lora"], "strategy__r": [2]}, {"strategy": ["head-only"]}]
    search = GridSearchCV(toy_classifier(tiny_bert, epochs=1), grid, scoring="f1_micro", cv=2).fit(*rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_one_bad_candidate_costs_a_search_only_itself(tiny_bert: Path, rows: Any) -> None:
    search = GridSearchCV(
        toy_classifier(tiny_bert, "lora", epochs=1), {"strategy__r": [-1, 2]}, scoring="f1_micro", cv=2
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One or more of the test scores are non-finite")
        with pytest.warns(sklearn.exceptions.FitFailedWarning):
            search.fit(*rows)
    assert search.best_params_ == {"strategy__r": 2}


def test_randomized_search_and_parallel_jobs(tiny_bert: Path, rows: Any) -> None:
    search = RandomizedSearchCV(
        toy_classifier(tiny_bert, "head-only", epochs=1), {"training__learning_rate": [1e-3, 1e-2]}, n_iter=2,
        scoring="f1_micro", cv=2, n_jobs=2, random_state=0,
    )  # fmt: skip
    search.fit(*rows)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize(
    "scoring", ["f1_micro", "f1_macro", "f1_samples", "jaccard_micro", "accuracy", "precision_micro", None]
)
def test_cross_val_score_with_sklearns_scorers(tiny_bert: Path, rows: Any, scoring: str | None) -> None:
    with warnings.catch_warnings():  # a barely trained model predicts no label in some rows
        warnings.filterwarnings("ignore", category=sklearn.exceptions.UndefinedMetricWarning)
        scores = cross_val_score(toy_classifier(tiny_bert, "head-only", epochs=1), *rows, cv=2, scoring=scoring)
    assert np.isfinite(scores).all()


def test_ranking_scorers_use_the_decision_function(tiny_bert: Path, rows: Any) -> None:
    clf = toy_classifier(tiny_bert, epochs=8, training={"learning_rate": 3e-3})
    found = cross_validate(clf, *rows, cv=2, scoring=["roc_auc", "average_precision"])
    assert found["test_roc_auc"].mean() > 0.5
    assert found["test_average_precision"].mean() > 0.3


def test_label_lists_work_in_cross_validation_with_our_scorer(tiny_bert: Path) -> None:
    from mlclf.metrics import make_scorer

    texts, labels = toy_rows(48)
    classes = sorted({name for row in labels for name in row})
    clf = toy_classifier(tiny_bert, "head-only", epochs=1, classes=classes)
    scores = cross_val_score(clf, texts, labels, cv=KFold(2), scoring=make_scorer("micro_f1"))
    assert np.isfinite(scores).all()


def test_sparse_targets_in_grid_search(tiny_bert: Path, rows: Any) -> None:
    texts, Y = rows
    search = GridSearchCV(
        toy_classifier(tiny_bert, epochs=1), {"training__epochs": [1]}, scoring="f1_micro", cv=KFold(2)
    )
    search.fit(texts, csr_array(Y))
    assert np.isfinite(search.best_score_)


def test_a_pipeline_passes_texts_and_weights_on(tiny_bert: Path, rows: Any) -> None:
    texts, Y = rows
    pipe = Pipeline([
        ("lower", FunctionTransformer(lambda X: [text.lower() for text in X])),
        ("clf", toy_classifier(tiny_bert, epochs=1)),
    ])  # fmt: skip
    pipe.fit(texts, Y, clf__sample_weight=np.ones(len(texts)))
    assert pipe.predict(texts).shape == Y.shape
    assert pipe.set_params(clf__strategy__learning_rate=1e-4) is pipe


def test_metadata_routing_of_sample_weight(tiny_bert: Path, rows: Any) -> None:
    texts, Y = rows
    with sklearn.config_context(enable_metadata_routing=True):
        clf = (
            toy_classifier(tiny_bert, epochs=1)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        cross_validate(clf, texts, Y, cv=2, params={"sample_weight": np.ones(len(texts))})
        plain = toy_classifier(tiny_bert, epochs=1)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            cross_validate(plain, texts, Y, cv=2, params={"sample_weight": np.ones(len(texts))})


def test_cross_val_predict_of_labels(tiny_bert: Path, rows: Any) -> None:
    assert cross_val_predict(toy_classifier(tiny_bert, epochs=1), *rows, cv=2).shape == rows[1].shape


def test_score_is_subset_accuracy(tiny_bert: Path, rows: Any) -> None:
    from sklearn.metrics import accuracy_score

    clf = toy_classifier(tiny_bert, epochs=8, training={"learning_rate": 3e-3}).fit(*rows)
    assert clf.score(*rows) == pytest.approx(accuracy_score(rows[1], clf.predict(rows[0])))


def test_html_and_text_representation_show_nested_options() -> None:
    clf = MultiLabelClassifier(strategy=LoraOptions(r=3))
    assert "r=3" in repr(clf)
    assert "LoraOptions" in clf._repr_html_()


def test_tags_say_text_and_multi_label() -> None:
    tags = MultiLabelClassifier().__sklearn_tags__()
    assert tags.input_tags.string
    assert tags.classifier_tags.multi_label
    assert tags.estimator_type == "classifier"


# scikit-learn's own checks feed numbers; this subclass, for tests only, turns them into words. --------------------


def _words(X: Any) -> list[str]:
    return [" ".join(f"f{i}v{round(float(value))}" for i, value in enumerate(row)) for row in X]


class NumericAdapter(MultiLabelClassifier):
    """Reads numeric rows as words, and single labels as one-hot rows."""

    def __init__(self, backbone: Any = None, random_state: Any = 0) -> None:
        super().__init__(
            backbone, "full", training=TrainingOptions(epochs=1, batch_size=512, precision="fp32"), validation=None,
            verbose=0, random_state=random_state, device="cpu",
        )  # fmt: skip
        self.backbone = backbone
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        from sklearn.utils.multiclass import type_of_target
        from sklearn.utils.validation import _check_sample_weight, validate_data

        X, y = validate_data(self, X, y, multi_output=True, dtype="numeric")
        y = np.asarray(y)
        if y.ndim == 1:
            self.single_, codes = np.unique(y, return_inverse=True)
            if len(self.single_) < 2:
                raise ValueError("The targets hold one class only; a classifier needs two.")
            if type_of_target(y) == "continuous":
                raise ValueError(f"Unknown label type: {type_of_target(y)}")
            y = np.eye(len(self.single_), dtype=np.int64)[codes]
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        super().fit(_words(X), y, sample_weight=weights)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        from sklearn.utils.validation import validate_data

        if not hasattr(self, "model_"):
            return self.fit(X, y, sample_weight)
        X, y = validate_data(self, X, y, multi_output=True, dtype="numeric", reset=False)
        codes = np.eye(len(self.single_), dtype=np.int64)[np.searchsorted(self.single_, y)] if y.ndim == 1 else y
        return super().partial_fit(_words(X), codes, sample_weight)

    def _rows(self, X: Any) -> list[str]:
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        return _words(validate_data(self, X, reset=False, dtype="numeric"))

    # Each row alone: float32 sums depend, in the last digit, on a row's place in its batch, and scikit-learn compares
    # to nine digits. That answers do not depend on neighbours beyond rounding is tested in test_classifier.py.

    def predict(self, X: Any) -> Any:
        return np.concatenate([MultiLabelClassifier.predict(self, [text]) for text in self._rows(X)])

    def predict_proba(self, X: Any) -> Any:
        texts = X if isinstance(X, list) and isinstance(X[0], str) else self._rows(X)
        return np.concatenate([MultiLabelClassifier.predict_proba(self, [text]) for text in texts])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        y = np.asarray(y)
        rows = np.eye(len(self.single_), dtype=np.int64)[np.searchsorted(self.single_, y)] if y.ndim == 1 else y
        return float(np.average((self.predict(X) == rows).all(axis=1), weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        tags.classifier_tags.multi_class = True
        return tags


register_backbone(WordBackbone, name="local:words")

EXPECTED_FAILURES = {
    "check_classifiers_classes": "trains on single labels, which a multi-label classifier has not",
    "check_classifiers_train": "trains on single labels, which a multi-label classifier has not",
    "check_sample_weight_equivalence_on_dense_data": "a repeated row changes which rows share a mini-batch",
    "check_sample_weight_equivalence_on_sparse_data": "a repeated row changes which rows share a mini-batch",
    "check_decision_proba_consistency": "binary check on single labels",
}


@parametrize_with_checks([NumericAdapter(WordOptions())], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_sklearn_estimator_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_options_objects_survive_json_and_pickle() -> None:
    import pickle

    for options in (BertOptions(max_length=9), LoraOptions(layers=(0, 1)), TrainingOptions(epochs=9)):
        assert pickle.loads(pickle.dumps(options)) == options
        assert type(options).model_validate_json(options.model_dump_json()) == options
