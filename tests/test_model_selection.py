"""Splits keep every label in proportion and use every row once; out-of-fold predictions keep their columns."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.labels import LabelSpace, Targets, to_indicator
from mlclf.model_selection import MultilabelStratifiedKFold, cross_val_predict, stratified_split, train_test_split


def zipf_targets(n_samples: int, n_labels: int, cardinality: float, seed: int = 0) -> Targets:
    """Targets whose label frequencies fall like 1 / rank; some rows have no label."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, n_labels + 1)
    n_cells = int(n_samples * cardinality)
    columns = rng.choice(n_labels, n_cells, p=shares / shares.sum())
    indicator = sp.csr_array((np.ones(n_cells), (rng.integers(0, n_samples, n_cells), columns)), (n_samples, n_labels))
    return LabelSpace.infer(indicator > 0).encode(indicator > 0)


def deviation(targets: Targets, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How far each label's positives among some rows are from their share."""
    return np.abs(targets.take(rows).positives - targets.positives * len(rows) / len(targets))


def test_rare_and_common_labels_and_empty_rows_are_split_in_proportion() -> None:
    targets = zipf_targets(5000, 28, 1.2)
    _, test = stratified_split(targets, 0.1, seed=0)
    assert len(test) == 500
    assert deviation(targets, test).max() < 1.5
    empty = np.diff(targets.indicator.indptr) == 0
    assert abs(empty[test].mean() - empty.mean()) < 0.01
    by_chance = np.random.default_rng(0).permutation(5000)[:500]
    assert deviation(targets, by_chance).mean() > 5 * deviation(targets, test).mean()


def test_folds_keep_every_label_in_proportion() -> None:
    targets = zipf_targets(5000, 28, 1.2)
    for _, test in MultilabelStratifiedKFold(5, shuffle=True, random_state=1).split(None, targets.indicator):
        assert len(test) == 1000
        assert deviation(targets, test).max() < 1.5


@pytest.mark.parametrize("test_size", [0.1, 0.5, 0.75])
def test_the_only_row_of_a_label_is_trained_on(test_size: float) -> None:
    rows: list[list[int]] = [[] for _ in range(40)]
    for label, row in enumerate(range(0, 40, 4)):
        rows[row] = [label]
    train, _ = stratified_split(LabelSpace.infer(rows).encode(rows), test_size, seed=0)
    assert set(range(0, 40, 4)) <= set(train.tolist())


def test_only_rows_give_way_where_training_has_no_room() -> None:
    rows = [[label] for label in range(10)]
    train, test = stratified_split(LabelSpace.infer(rows).encode(rows), 0.3, seed=0)
    assert (len(train), len(test)) == (7, 3)


def test_a_hundred_thousand_rows_and_a_hundred_labels_take_seconds() -> None:
    targets = zipf_targets(100_000, 100, 4)
    start = time.process_time()
    stratified_split(targets, 0.1, seed=0)
    # Measured 0.15 s; the loop over rows of other implementations takes minutes.
    assert time.process_time() - start < 3


@st.composite
def indicators(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    n_samples, n_labels = draw(st.integers(2, 25)), draw(st.integers(1, 6))
    cells = draw(st.lists(st.booleans(), min_size=n_samples * n_labels, max_size=n_samples * n_labels))
    return np.array(cells).reshape(n_samples, n_labels)


@given(indicators(), st.integers(0, 3), st.data())
def test_each_row_is_in_one_part_and_the_seed_decides(Y: np.ndarray[Any, Any], seed: int, data: st.DataObject) -> None:
    targets = LabelSpace.infer(Y).encode(Y)
    n_test = data.draw(st.integers(1, len(Y) - 1))
    train, test = stratified_split(targets, n_test, seed)
    assert len(test) == n_test
    assert sorted([*train, *test]) == list(range(len(Y)))
    assert train.tolist() == sorted(train)
    assert test.tolist() == sorted(test)
    again = stratified_split(targets, n_test, seed)
    assert (again[0].tolist(), again[1].tolist()) == (train.tolist(), test.tolist())


@given(indicators(), st.integers(2, 6), st.booleans())
def test_each_row_is_tested_in_one_fold_of_equal_size(Y: np.ndarray[Any, Any], n_splits: int, shuffle: bool) -> None:
    n_splits = min(n_splits, len(Y))
    folds = MultilabelStratifiedKFold(n_splits, shuffle=shuffle, random_state=3 if shuffle else None)
    parts = list(folds.split(np.zeros(len(Y)), Y))
    assert sorted(row for _, test in parts for row in test) == list(range(len(Y)))
    sizes = [len(test) for _, test in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(sorted([*train, *test]) == list(range(len(Y))) for train, test in parts)
    assert [test.tolist() for _, test in folds.split(None, Y)] == [test.tolist() for _, test in parts]


@given(st.lists(st.booleans(), min_size=4, max_size=40), st.integers(2, 4))
def test_one_label_is_spread_to_within_a_row(applies: list[bool], n_splits: int) -> None:
    Y = np.array(applies)[:, None]
    counts = [int(Y[test].sum()) for _, test in MultilabelStratifiedKFold(n_splits).split(None, Y)]
    assert max(counts) - min(counts) <= 1


def test_another_seed_gives_another_split() -> None:
    targets = zipf_targets(200, 5, 1.5)
    parts = [stratified_split(targets, 0.5, seed)[1].tolist() for seed in (0, 1)]
    assert parts[0] != parts[1]
    state = np.random.RandomState(0)
    first, second = (stratified_split(targets, 0.5, state)[1].tolist() for _ in range(2))
    assert first != second
    repeated = stratified_split(targets, 0.5, np.random.RandomState(0))[1].tolist()
    assert repeated == first


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(0)  # noqa: NPY002 - the point of the test
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]  # noqa: NPY002
    train_test_split(["a", "b", "c"], [["x"], [], ["y"]])
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]  # noqa: NPY002


TEXTS = [f"text {number}" for number in range(12)]
LISTS = [["joy"], ["fear"], [], ["joy", "fear"]] * 3
DENSE = to_indicator(LISTS).to_numpy()


@pytest.mark.parametrize(
    "Y",
    [
        LISTS,
        tuple(LISTS),
        [set(row) for row in LISTS],
        pd.Series(LISTS, index=range(100, 112)),
        DENSE,
        DENSE.astype(bool),
        to_indicator(LISTS),
        sp.csr_array(DENSE),
        sp.csc_matrix(DENSE),
        sp.coo_array(DENSE),
        [dict.fromkeys(row, True) for row in LISTS],
    ],
    ids=lambda Y: type(Y).__name__,
)
def test_parts_have_the_type_that_came_in(Y: Any) -> None:
    weights = np.arange(12.0)
    parts = train_test_split(np.array(TEXTS), Y, weights, test_size=0.25, random_state=0)
    X_train, X_test, Y_train, Y_test, w_train, w_test = parts
    expected = sp.csr_array if isinstance(Y, sp.coo_array) else type(Y)
    assert type(Y_train) is type(Y_test) is expected
    assert isinstance(X_train, np.ndarray)
    assert (len(X_train), len(w_test)) == (9, 3)
    assert [f"text {number:.0f}" for number in w_test] == X_test.tolist()
    space = LabelSpace.infer(Y)
    kept = space.encode(Y).take(w_train.astype(int)).indicator.toarray()
    assert space.encode(Y_train).indicator.toarray().tolist() == kept.tolist()


def test_generators_and_frames_of_texts_are_split() -> None:
    X_train, X_test, *_ = train_test_split((text for text in TEXTS), LISTS, random_state=0)
    assert sorted(X_train + X_test) == sorted(TEXTS)
    X_train, *_ = train_test_split(pd.DataFrame({"text": TEXTS}), LISTS, random_state=0)
    assert list(X_train.columns) == ["text"]


@pytest.mark.parametrize(
    ("test_size", "message"),
    [
        (0, r"test_size=0 leaves 12 of 12 rows for training and 0 for testing"),
        (12, r"leaves 0 of 12 rows for training"),
        (0.01, r"leaves 12 of 12 rows for training and 0 for testing"),
        (1.0, r"test_size must be a share between 0 and 1 or a number of rows, got 1\.0"),
        (True, r"got True"),
        ("0.2", r"got '0\.2'"),
    ],
)
def test_both_parts_need_a_row(test_size: Any, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        train_test_split(TEXTS, LISTS, test_size=test_size)


def test_lengths_and_options_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="equally long, got 11 texts and 12 rows"):
        train_test_split(TEXTS[1:], LISTS)
    with pytest.raises(InvalidInputError, match="Argument 3 of train_test_split has 2 rows, X and Y have 12"):
        train_test_split(TEXTS, LISTS, [1, 2])
    with pytest.raises(OptionsError, match="random_state must be an int, RandomState, Generator or None, got 'x'"):
        train_test_split(TEXTS, LISTS, random_state="x")  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="n_splits must be an int of at least 2, got 1"):
        MultilabelStratifiedKFold(1)
    with pytest.raises(OptionsError, match="random_state has no effect without shuffle"):
        MultilabelStratifiedKFold(3, random_state=0)
    with pytest.raises(InvalidInputError, match="13 folds need at least as many rows, got 12"):
        list(MultilabelStratifiedKFold(13).split(TEXTS, LISTS))


def text_pipeline() -> Any:
    return make_pipeline(CountVectorizer(), OneVsRestClassifier(MultinomialNB()))


JOYFUL = ["glad day", "glad walk", "oh day", "oh walk", "glad oh", "glad oh day", "walk", "day"] * 3
JOYFUL_LABELS = [["joy"], ["joy"], ["fear"], ["fear"], ["joy", "fear"], ["joy", "fear"], [], []] * 3


@pytest.mark.parametrize("routing", [False, True])
def test_scikit_learn_takes_the_folds(routing: bool) -> None:
    folds, Y = MultilabelStratifiedKFold(3, shuffle=True, random_state=0), to_indicator(JOYFUL_LABELS)
    with sklearn.config_context(enable_metadata_routing=routing):
        scores = cross_val_score(text_pipeline(), JOYFUL, Y, cv=folds, scoring="f1_micro")
        assert scores.shape == (3,)
        assert scores.min() > 0.8
        grid = {"onevsrestclassifier__estimator__alpha": [0.1, 1.0]}
        search = GridSearchCV(text_pipeline(), grid, cv=folds, scoring="f1_micro").fit(JOYFUL, Y)
        assert clone(search).cv == folds
    assert folds.get_n_splits(JOYFUL, Y) == 3
    assert repr(folds) == "MultilabelStratifiedKFold(n_splits=3, shuffle=True, random_state=0)"


class Frequency(ClassifierMixin, BaseEstimator):
    """Says of every text how often each label applied in training; takes any form of Y, like mlclf's own."""

    def __init__(self, classes: list[Any] | None = None) -> None:
        self.classes = classes

    def fit(self, X: Any, Y: Any, sample_weight: Any = None) -> Self:
        self.space_ = LabelSpace.infer(Y, self.classes)
        dense = self.space_.encode(Y, n_samples=len(X)).dense(np.arange(len(X)))[0]
        self.share_ = np.average(dense, axis=0, weights=sample_weight)
        return self

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        return np.tile(self.share_, (len(X), 1))

    def predict(self, X: Any) -> Any:
        return self.predict_proba(X) >= 0.5

    def predict_labels(self, X: Any) -> list[tuple[Any, ...]]:
        return self.space_.decode(self.predict(X))


ALWAYS = [["always", *row] for row in LISTS]
ALWAYS[5] = ["always", "once"]


@pytest.mark.parametrize("Y", [ALWAYS, [set(row) for row in ALWAYS], pd.Series(ALWAYS), to_indicator(ALWAYS)])
def test_columns_stay_in_place_in_every_fold(Y: Any) -> None:
    probabilities = cross_val_predict(Frequency(), TEXTS, Y, cv=3)
    assert probabilities.shape == (12, 4)
    # scikit-learn's function codes an always-on column as 0, and has no column for "once" in its test fold.
    assert probabilities[:, 0].tolist() == [1.0] * 12
    assert probabilities[5, 3] == 0
    assert probabilities[0, 1:3] == pytest.approx([4 / 12, 6 / 12], abs=0.15)


@pytest.mark.parametrize("Y", [sp.csr_array(DENSE), sp.coo_matrix(DENSE), DENSE.astype(bool)])
def test_matrices_are_predicted_in_their_form(Y: Any) -> None:
    assert cross_val_predict(Frequency(), TEXTS, Y, cv=3).shape == (12, 2)
    predicted = cross_val_predict(Frequency(), TEXTS, Y, cv=3, method="predict")
    assert predicted.dtype == Y.dtype
    assert predicted.shape == (12, 2)
    assert sp.issparse(predicted) == sp.issparse(Y)


def test_sparse_predictions_of_a_sparse_estimator_are_put_in_order() -> None:
    Y = sp.csr_matrix(to_indicator(JOYFUL_LABELS).to_numpy())
    predicted = cross_val_predict(text_pipeline(), JOYFUL, Y, cv=3, method="predict")
    assert isinstance(predicted, sp.csr_matrix)
    assert (predicted.toarray() == Y.toarray()).mean() > 0.8


def test_pipelines_of_scikit_learn_get_an_indicator_for_label_lists() -> None:
    predicted = cross_val_predict(text_pipeline(), JOYFUL, JOYFUL_LABELS, cv=KFold(3), method="predict")
    assert predicted.dtype == np.int8
    assert (predicted == to_indicator(JOYFUL_LABELS).to_numpy()).mean() > 0.8
    logistic = make_pipeline(CountVectorizer(), OneVsRestClassifier(LogisticRegression()))
    logits = cross_val_predict(logistic, JOYFUL, JOYFUL_LABELS, cv=3, method="decision_function")
    assert ((logits > 0) == predicted).mean() > 0.8


def test_names_given_classes_and_weights_reach_every_fold() -> None:
    names = cross_val_predict(Frequency(), TEXTS, ALWAYS, cv=3, method="predict_labels")
    assert len(names) == 12
    assert all(row[0] == "always" for row in names)
    given = Frequency(classes=["once", "joy", "fear", "always"])
    assert cross_val_predict(given, TEXTS, ALWAYS, cv=3)[:, 3].tolist() == [1.0] * 12
    weights = np.where([("joy" in row) for row in LISTS], 1.0, 0.0)
    weighted = cross_val_predict(Frequency(), TEXTS, LISTS, cv=3, params={"sample_weight": weights})
    assert weighted[:, 1].tolist() == [1.0] * 12
    assert given.get_params() == {"classes": ["once", "joy", "fear", "always"]}


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (ShuffleSplit(3, random_state=0), r"each of the 12 rows exactly once, got \d+ test rows"),
        ([(np.arange(6), np.arange(6, 12))], r"got 6 test rows, 6 of them different"),
    ],
)
def test_every_row_must_be_tested_once(cv: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        cross_val_predict(Frequency(), TEXTS, LISTS, cv=cv)


def test_estimators_that_give_a_list_of_arrays_are_refused() -> None:
    forest = make_pipeline(CountVectorizer(), RandomForestClassifier(2, random_state=0))
    with pytest.raises(InvalidInputError, match=r"predict_proba must give shape \(8, 2\).*got a list.*OneVsRest"):
        cross_val_predict(forest, JOYFUL, JOYFUL_LABELS, cv=3)
