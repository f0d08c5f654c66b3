"""Figures agree with scikit-learn where it defines them, and with their definitions where it does not."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array
from sklearn import metrics as sk
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate

from mlclf import ranked_cells
from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.labels import LabelSpace, Targets
from mlclf.metrics import Policy, macro_f1, make_scorer, mean_average_precision, micro_f1, score
from mlclf.thresholds import Thresholds

LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5, 0.75, 1.0])


def targets_of(state: np.ndarray) -> Targets:
    """1 applies, 0 does not, -1 unknown."""
    unknown = csr_array(state == -1) if (state == -1).any() else None
    return Targets(csr_array((state == 1).astype(np.int8)), unknown)


@st.composite
def problems(draw: st.DrawFn, fewest_labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truth; scikit-learn reads one column as another problem, hence two at least."""
    shape = draw(st.integers(1, 8)), draw(st.integers(fewest_labels, 6))
    return draw(arrays(np.float32, shape, elements=LEVELS)), draw(arrays(np.int8, shape, elements=st.integers(0, 1)))


# --- agreement with scikit-learn ------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(problems(), st.sampled_from([0.0, 1.0]), st.booleans())
def test_averages_agree_with_scikit_learn(problem: tuple[np.ndarray, np.ndarray], zero: float, sparse: bool) -> None:
    p, truth = problem
    given_p = csr_array(p) if sparse else p
    report = score(given_p, targets_of(truth), Thresholds.fixed(p.shape[1], 0.4), policy=Policy(zero, empty_rows=0.0))
    predicted = p >= 0.4
    for name in ("micro", "macro", "weighted"):
        expected = sk.precision_recall_fscore_support(truth, predicted, average=name, zero_division=zero)[:3]
        found = getattr(report.tuned, name)
        assert (found.precision, found.recall, found.f1) == pytest.approx(expected)
    expected = sk.precision_recall_fscore_support(truth, predicted, average="samples", zero_division=0.0)[:3]
    found = report.tuned.samples
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected)
    assert report.subset_accuracy == pytest.approx(sk.accuracy_score(truth, predicted))
    assert report.hamming_loss == pytest.approx(sk.hamming_loss(truth, predicted))


@settings(deadline=None)
@given(problems())
def test_labels_agree_with_scikit_learn(problem: tuple[np.ndarray, np.ndarray]) -> None:
    p, truth = problem
    report = score(p, targets_of(truth), Thresholds.fixed(p.shape[1]))
    expected = sk.precision_recall_fscore_support(truth, p >= 0.5, average=None, zero_division=0.0)
    labels = report.tuned.labels
    np.testing.assert_allclose([labels.precision, labels.recall, labels.f1, report.support], expected)
    assert report.tuned.labels.f1.tolist() == report.at_half.labels.f1.tolist()


@settings(deadline=None)
@given(problems())
def test_sample_f1_counts_rows_that_are_rightly_empty(problem: tuple[np.ndarray, np.ndarray]) -> None:
    p, truth = problem
    report = score(p, targets_of(truth), Thresholds.fixed(p.shape[1]))
    assert report.samples_f1 == pytest.approx(sk.f1_score(truth, p >= 0.5, average="samples", zero_division=1.0))


@settings(deadline=None)
@given(problems(), st.booleans())
def test_average_precision_agrees_with_scikit_learn(problem: tuple[np.ndarray, np.ndarray], sparse: bool) -> None:
    p, truth = problem
    report = score(csr_array(p) if sparse else p, targets_of(truth), Thresholds.fixed(p.shape[1]))
    expected = [
        sk.average_precision_score(truth[:, j], p[:, j]) if truth[:, j].any() else np.nan for j in range(p.shape[1])
    ]
    np.testing.assert_allclose(report.average_precision, expected)
    if truth.any():
        assert report.mean_average_precision == pytest.approx(np.nanmean(expected))
        assert mean_average_precision(p, targets_of(truth)) == report.mean_average_precision
    else:
        assert np.isnan(report.mean_average_precision)


@settings(deadline=None)
@given(problems(), st.booleans())
def test_label_ranking_agrees_with_scikit_learn(problem: tuple[np.ndarray, np.ndarray], sparse: bool) -> None:
    p, truth = problem
    report = score(csr_array(p) if sparse else p, targets_of(truth), Thresholds.fixed(p.shape[1]))
    expected = sk.label_ranking_average_precision_score(truth, p)
    assert report.label_ranking_average_precision == pytest.approx(expected)


@settings(deadline=None)
@given(problems(fewest_labels=1))
def test_quick_figures_agree_with_the_report(problem: tuple[np.ndarray, np.ndarray]) -> None:
    p, truth = problem
    targets = targets_of(truth)
    report = score(p, targets, Thresholds.fixed(p.shape[1]))
    for predicted in (p >= 0.5, (p >= 0.5).astype(np.float64), csr_array(p >= 0.5)):
        assert micro_f1(predicted, targets) == report.micro_f1
        assert macro_f1(predicted, targets) == report.macro_f1


# --- what scikit-learn does not define ------------------------------------------------------------------------------


@settings(deadline=None)
@given(problems(fewest_labels=1))
def test_precision_at_k_by_hand(problem: tuple[np.ndarray, np.ndarray]) -> None:
    p, truth = problem
    found = score(p, targets_of(truth), Thresholds.fixed(p.shape[1])).precision_at
    for k in (1, 3, 5):
        values = []
        for row, true in zip(p, truth, strict=True):
            # Ties do not speak for the model; what has probability 0 was not proposed at all.
            best = sorted(range(len(row)), key=lambda j: (-row[j], true[j]))[:k]
            if true.any():
                values.append(sum(true[j] for j in best if row[j] > 0) / min(k, len(row)))
        assert found[k] == pytest.approx(np.mean(values)) if values else np.isnan(found[k])


@settings(max_examples=60, deadline=None)
@given(problems(fewest_labels=1), st.data())
def test_unknown_cells_play_no_part(problem: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    p, truth = problem
    unknown = data.draw(arrays(np.bool_, p.shape))
    state = np.where(unknown, -1, truth)
    reports = [
        score(form, targets_of(state), Thresholds.fixed(p.shape[1])).to_dict()
        for form in (p, np.where(unknown, 1 - p, p), csr_array(p), csr_array(np.where(unknown, 0, p)))
    ]
    for other in reports[1:]:
        assert other == reports[0]


@settings(deadline=None)
@given(problems())
def test_a_label_or_row_without_known_cells_counts_nowhere(problem: tuple[np.ndarray, np.ndarray]) -> None:
    p, truth = problem
    more = np.pad(truth, ((0, 1), (0, 1)), constant_values=-1)
    wide = np.pad(p, ((0, 1), (0, 1)), constant_values=0.9)
    with_gap = score(wide, targets_of(more), Thresholds.fixed(p.shape[1] + 1)).to_dict()
    without = score(p, targets_of(truth), Thresholds.fixed(p.shape[1])).to_dict()
    assert with_gap["tuned"] == without["tuned"]
    for name in ("mean_average_precision", "label_ranking_average_precision", "precision_at", "n_empty"):
        assert with_gap[name] == without[name]
    assert with_gap["calibration_error"] == pytest.approx(without["calibration_error"])


def test_precision_at_k_leaves_unknown_labels_out() -> None:
    report = score([[0.9, 0.8, 0.1]], targets_of(np.array([[-1, 0, 1]])), Thresholds.fixed(3))
    assert report.precision_at == {1: 0.0, 3: 0.5, 5: 0.5}


def test_labels_outside_the_label_space_count_as_missed() -> None:
    space = LabelSpace(("a", "b"))
    with pytest.warns(UserWarning, match="not known to the model"):
        targets = space.encode([["a", "x"], ["b"]], unknown_labels="warn")
    report = score([[0.9, 0.1], [0.1, 0.9]], targets, Thresholds.fixed(2))
    assert report.n_dropped == 1
    assert report.tuned.micro.recall == pytest.approx(2 / 3)
    assert report.tuned.micro.precision == 1
    assert report.subset_accuracy == 0.5
    assert report.tuned.samples.recall == 0.75


def test_policy_decides_over_empty_rows_and_labels() -> None:
    targets = targets_of(np.array([[1, 0], [0, 0]]))
    p = [[0.9, 0.1], [0.1, 0.1]]
    kind, strict = (score(p, targets, Thresholds.fixed(2), policy=x) for x in (Policy(1.0, 1.0), Policy(0.0, 0.0)))
    assert (kind.macro_f1, strict.macro_f1) == (1.0, 0.5)
    assert (kind.samples_f1, strict.samples_f1) == (1.0, 0.5)
    assert (kind.label_ranking_average_precision, strict.label_ranking_average_precision) == (1.0, 0.5)


def test_no_rows_give_no_figures() -> None:
    report = score(np.zeros((0, 2)), targets_of(np.zeros((0, 2), dtype=np.int8)), Thresholds.fixed(2))
    assert np.isnan([report.macro_f1, report.samples_f1, report.hamming_loss, report.mean_average_precision]).all()
    assert "0 rows" in str(report)


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    p = np.round(random.random((50, 30)), 2).astype(np.float32)
    targets = targets_of(random.integers(-1, 2, size=p.shape))
    whole = score(p, targets, Thresholds.fixed(30)).to_dict()
    monkeypatch.setattr(ranked_cells, "_CHUNK_CELLS", 64)
    for form in (p, csr_array(p)):
        chunked = score(form, targets, Thresholds.fixed(30)).to_dict()
        assert chunked.pop("calibration_error") == pytest.approx(whole["calibration_error"])
        assert chunked == {key: value for key, value in whole.items() if key != "calibration_error"}


def test_very_many_labels_stay_sparse() -> None:
    """As a dense matrix these cells would take 8 GB."""
    random = np.random.default_rng(0)
    rows, labels, kept = 2_000, 1_000_000, 20
    columns = np.sort(random.integers(0, labels, size=(rows, kept)), axis=1)
    cells = random.random(rows * kept).astype(np.float32) * 0.9 + 0.05
    p = csr_array((cells, columns.ravel(), np.arange(rows + 1) * kept), shape=(rows, labels))
    p.sum_duplicates()
    p.data = np.minimum(p.data, 1)
    truth = csr_array(((random.random(p.nnz) < p.data).astype(np.int8), p.indices, p.indptr), shape=p.shape)
    truth.eliminate_zeros()
    report = score(p, Targets(truth), Thresholds.fixed(labels, 0.4))
    assert 0.5 < report.micro_f1 < 1
    assert report.precision_at[1] > report.precision_at[5] > 0.5


def test_what_does_not_fit_is_refused() -> None:
    targets = targets_of(np.eye(2, dtype=np.int8))
    with pytest.raises(InvalidInputError, match=r"predicted must have shape \(2, 2\).*got \(2, 3\)"):
        micro_f1(np.zeros((2, 3)), targets)
    for form in (np.asarray, csr_array):
        with pytest.raises(InvalidInputError, match=r"indicator matrix of 0 and 1.*Thresholds.apply"):
            macro_f1(form(np.full((2, 2), 0.3)), targets)
    with pytest.raises(InvalidInputError, match="names must be one for each of 2 labels, got 3"):
        score(np.zeros((2, 2)), targets, Thresholds.fixed(2), names=("a", "b", "c"))
    with pytest.raises(InvalidInputError, match="for 3 labels cannot serve 2"):
        score(np.zeros((2, 2)), targets, Thresholds.fixed(3))
    with pytest.raises(InvalidInputError, match="must not contain NaN"):
        mean_average_precision(np.full((2, 2), np.nan), targets)


# --- scorers --------------------------------------------------------------------------------------------------------


class WordClassifier(ClassifierMixin, BaseEstimator):
    """A label applies where its name occurs in the text, with a confidence that can be searched over."""

    def __init__(self, confidence: float = 0.9) -> None:
        self.confidence = confidence

    def fit(self, X: Any, Y: Any) -> WordClassifier:
        self.classes_ = np.array(["anger", "joy", "zeal"])
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        return np.array([[self.confidence if name in text else 0.1 for name in self.classes_] for text in X])

    def predict(self, X: Any) -> np.ndarray:
        return (self.predict_proba(X) >= 0.5).astype(np.int8)


TEXTS = np.array(["joy", "anger and joy", "nothing", "zeal", "joy and zeal", "anger"], dtype=object)
LABELS = np.empty(6, dtype=object)
LABELS[:] = [["joy"], ["anger", "joy"], [], ["zeal"], ["joy"], ["anger"]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("micro_f1", 12 / 13),
        ("macro_f1", (1 + 1 + 2 / 3) / 3),
        ("weighted_f1", (2 * 1 + 3 * 1 + 1 * 2 / 3) / 6),
        ("samples_f1", (5 + 2 / 3) / 6),
        ("subset_accuracy", 5 / 6),
        ("neg_hamming_loss", -1 / 18),
        ("mean_average_precision", (1 + 1 + 0.5) / 3),
        ("label_ranking_average_precision", (5 + 0.5) / 6),
        ("precision_at_1", 4 / 5),
        ("precision_at_3", (1 / 3 + 2 / 3 + 1 / 3 + 1 / 3 + 1 / 3) / 5),
        ("precision_at_5", (1 / 3 + 2 / 3 + 1 / 3 + 1 / 3 + 1 / 3) / 5),
        ("neg_calibration_error", -(11 * 0.1 + abs(7 * 0.9 - 6)) / 18),
    ],
)
def test_every_scorer(name: str, expected: float) -> None:
    scorer = make_scorer(name)
    fitted = WordClassifier().fit(TEXTS, LABELS)
    assert scorer(fitted, TEXTS, LABELS) == pytest.approx(expected)
    assert pickle.loads(pickle.dumps(scorer))(fitted, TEXTS, LABELS) == pytest.approx(expected)
    assert scorer(fitted, TEXTS, LabelSpace(("anger", "joy", "zeal")).encode(LABELS).indicator) == pytest.approx(
        expected
    )


def test_scorers_work_in_scikit_learn_with_label_lists() -> None:
    folds = KFold(3)
    assert len(cross_val_score(WordClassifier(), TEXTS, LABELS, cv=folds, scoring=make_scorer("micro_f1"))) == 3
    both = {name: make_scorer(name) for name in ("macro_f1", "mean_average_precision")}
    assert "test_mean_average_precision" in cross_validate(WordClassifier(), TEXTS, LABELS, cv=folds, scoring=both)
    search = GridSearchCV(WordClassifier(), {"confidence": [0.3, 0.9]}, cv=folds, scoring=make_scorer("micro_f1"))
    assert search.fit(TEXTS, LABELS).best_params_ == {"confidence": 0.9}


def test_a_function_can_be_a_scorer() -> None:
    scorer = make_scorer(lambda p, targets: float(p.max()) + len(targets), needs="predict_proba")
    assert scorer(WordClassifier().fit(TEXTS, LABELS), TEXTS, LABELS) == pytest.approx(6.9)


def test_scorer_counts_labels_that_the_estimator_does_not_know_as_missed() -> None:
    with pytest.warns(UserWarning, match="'envy'"):
        found = make_scorer("micro_f1")(WordClassifier().fit(TEXTS, LABELS), ["joy"], [["joy", "envy"]])
    assert found == pytest.approx(2 / 3)


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"one of micro_f1, .*got 'f1_micro'"):
        make_scorer("f1_micro")
