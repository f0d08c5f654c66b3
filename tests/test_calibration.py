"""Calibrated probabilities mean what they say, and labels with little evidence stay as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from mlclf import ranked_cells
from mlclf.calibration import PlattScaling, expected_calibration_error, fit_platt
from mlclf.exceptions import BundleDamagedError, InvalidInputError, OptionsError
from mlclf.labels import Targets

PROBABILITIES = st.floats(0, 1, width=32)


def targets_of(state: np.ndarray) -> Targets:
    """1 applies, 0 does not, -1 unknown."""
    unknown = csr_array(state == -1) if (state == -1).any() else None
    return Targets(csr_array((state == 1).astype(np.int8)), unknown)


def distorted(rows: int, scale: list[float], offset: list[float], seed: int = 0) -> tuple[np.ndarray, Targets]:
    """Probabilities whose log-odds must be multiplied by ``scale`` and moved by ``offset`` to be right."""
    random = np.random.default_rng(seed)
    odds = random.normal(-1, 1.5, size=(rows, len(scale)))
    truth = random.random(odds.shape) < 1 / (1 + np.exp(-(np.array(scale) * odds + offset)))
    return (1 / (1 + np.exp(-odds))).astype(np.float32), targets_of(truth.astype(np.int8))


def log_loss(p: np.ndarray, targets: Targets) -> float:
    truth = targets.indicator.toarray() > 0
    return float(-np.log(np.clip(np.where(truth, p, 1 - p), 1e-7, 1)).mean())


# --- fitting --------------------------------------------------------------------------------------------------------


def test_distortion_is_undone_where_there_is_evidence() -> None:
    p, targets = distorted(40_000, [0.5, 1.0, 2.0], [-1.0, 0.0, 1.0])
    found = fit_platt(p, targets)
    np.testing.assert_allclose(found.scale, [0.5, 1.0, 2.0], atol=0.06)
    np.testing.assert_allclose(found.offset, [-1.0, 0.0, 1.0], atol=0.06)


def test_error_and_loss_fall_on_new_rows() -> None:
    scale, offset = [0.4, 0.6, 0.5, 0.7], [-1.5, -1.0, 0.5, -2.0]
    calibrator = fit_platt(*distorted(2000, scale, offset))
    p, targets = distorted(20_000, scale, offset, seed=1)
    after = calibrator.apply(p)
    assert expected_calibration_error(after, targets) < 0.25 * expected_calibration_error(p, targets)
    assert log_loss(after, targets) < log_loss(p, targets)


def test_agrees_with_logistic_regression_where_evidence_outweighs_the_prior() -> None:
    p, targets = distorted(30_000, [0.7], [0.4])
    odds = np.log(p / (1 - p))
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(odds, targets.indicator.toarray()[:, 0])
    found = fit_platt(p, targets)
    assert found.scale[0] == pytest.approx(expected.coef_[0, 0], abs=0.01)
    assert found.offset[0] == pytest.approx(expected.intercept_[0], abs=0.01)


def test_labels_without_known_cells_take_the_offset_that_all_share() -> None:
    p, targets = distorted(5000, [1.0] * 5, [1.0] * 5)
    state = targets.indicator.toarray()
    state[:, 4] = -1
    found = fit_platt(p, targets_of(state))
    assert found.scale[4] == 1
    assert found.offset[4] == pytest.approx(1, abs=0.1)


def test_a_few_positives_move_a_label_less_than_many() -> None:
    def moved(rows: int) -> float:
        p, targets = distorted(rows, [1.0, 1.0, 1.0, 0.3], [0.0, 0.0, 0.0, 0.0])
        return float(1 - fit_platt(p, targets).scale[3])

    assert moved(20) < moved(5000) < 0.75


def test_order_of_texts_survives_even_a_label_that_is_predicted_the_wrong_way_round() -> None:
    p, targets = distorted(3000, [-1.0, 1.0], [0.0, 0.0])
    calibrated = fit_platt(p, targets).apply(p)
    for label in range(2):
        order = np.argsort(p[:, label])
        assert (np.diff(calibrated[order, label]) >= 0).all()


def test_unknown_cells_play_no_part() -> None:
    p, targets = distorted(400, [0.5, 1.0], [0.0, 1.0])
    state = targets.indicator.toarray()
    state[::3] = -1
    assert fit_platt(p, targets_of(state)) == fit_platt(np.where(state == -1, 1 - p, p), targets_of(state))


def test_small_chunks_and_sparse_form_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    p, targets = distorted(200, [0.5, 1.0, 2.0], [0.0, 1.0, -1.0])
    whole = fit_platt(p, targets)
    monkeypatch.setattr(ranked_cells, "_CHUNK_CELLS", 250)
    for form in (p, csr_array(p)):
        found = fit_platt(form, targets)
        np.testing.assert_allclose(found.scale, whole.scale, rtol=1e-5)
        np.testing.assert_allclose(found.offset, whole.offset, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("probability", [0.0, 1e-30, 0.5, 1.0])
def test_hopeless_data_give_finite_numbers(truth: int, probability: float) -> None:
    found = fit_platt(np.full((30, 2), probability), targets_of(np.full((30, 2), truth)))
    assert np.isfinite(found.scale).all()
    assert np.isfinite(found.offset).all()


def test_probabilities_that_do_not_fit_are_refused() -> None:
    targets = targets_of(np.eye(2, dtype=np.int8))
    with pytest.raises(InvalidInputError, match="must not contain NaN"):
        fit_platt(np.full((2, 2), np.nan), targets)
    with pytest.raises(InvalidInputError, match="as many rows as each other, got 3 and 2"):
        fit_platt(np.zeros((3, 2)), targets)


# --- applying -------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(0, 6), st.just(3)), elements=PROBABILITIES))
def test_apply_is_the_same_dense_and_sparse_and_keeps_zero(p: np.ndarray) -> None:
    calibrator = PlattScaling(np.array([1.0, 0.5, 2.0]), np.array([0.0, 1.0, -1.0]))
    dense = calibrator.apply(p)
    assert dense.dtype == np.float32
    assert ((dense >= 0) & (dense <= 1)).all()
    assert not dense[p == 0].any()
    np.testing.assert_array_equal(calibrator.apply(csr_array(p)).toarray(), dense)


def test_apply_leaves_its_input_alone() -> None:
    p = csr_array(np.array([[0.2, 0.0]], dtype=np.float32))
    PlattScaling(np.array([1.0, 1.0]), np.array([1.0, 1.0])).apply(p)
    assert p.data.tolist() == [np.float32(0.2)]


def test_identity_changes_nothing_that_matters() -> None:
    p = np.linspace(0.001, 0.999, 50, dtype=np.float32)[:, None]
    np.testing.assert_allclose(PlattScaling(np.ones(1), np.zeros(1)).apply(p), p, rtol=1e-6)


@settings(deadline=None)
@given(
    arrays(np.float32, 3, elements=st.floats(0.0625, 100, width=32)),
    arrays(np.float32, 3, elements=st.floats(-100, 100, width=32)),
)
def test_json_gives_back_an_equal_calibrator(scale: np.ndarray, offset: np.ndarray) -> None:
    calibrator = PlattScaling(scale, offset)
    back = PlattScaling.from_json(json.loads(json.dumps(calibrator.to_json())))
    assert back == calibrator
    assert hash(back) == hash(calibrator)


@pytest.mark.parametrize(
    "change", [{"scale": [0.0, 1.0]}, {"offset": [1.0]}, {"scale": "abc"}, {"offset": [None, 1.0]}]
)
def test_damaged_json_is_refused(change: dict[str, object]) -> None:
    good = PlattScaling(np.ones(2), np.zeros(2)).to_json()
    with pytest.raises(BundleDamagedError, match="saved calibration cannot be read"):
        PlattScaling.from_json({**good, **change})
    with pytest.raises(BundleDamagedError, match="saved calibration cannot be read"):
        PlattScaling.from_json({})


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [([1.0, 1.0], [0.0], "one number a label"), ([0.0], [0.0], "scale positive"), ([1.0], [np.nan], "must be finite")],
)
def test_impossible_numbers_are_refused(scale: list[float], offset: list[float], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        PlattScaling(np.array(scale), np.array(offset))


# --- expected calibration error -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(arrays(np.float32, (9, 2), elements=PROBABILITIES), arrays(np.int8, (9, 2), elements=st.integers(-1, 1)))
def test_calibration_error_by_hand(p: np.ndarray, state: np.ndarray) -> None:
    known = state >= 0
    bins = np.minimum((p.astype(np.float64) * 10).astype(int), 9)
    expected = sum(abs((p.astype(np.float64) - state)[known & (bins == number)].sum()) for number in range(10)) / max(
        1, known.sum()
    )
    for form in (p, csr_array(p)):
        found = expected_calibration_error(form, targets_of(state), n_bins=10)
        assert found == pytest.approx(expected, abs=1e-9) if known.any() else np.isnan(found)


def test_there_must_be_a_bin() -> None:
    with pytest.raises(InvalidInputError, match="n_bins must be at least 1, got 0"):
        expected_calibration_error([[0.5]], targets_of(np.ones((1, 1), dtype=np.int8)), n_bins=0)
