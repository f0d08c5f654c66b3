"""From probabilities to labels: the rule itself, the forms it is given in, and its tuning."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from mlclf import ranked_cells
from mlclf.exceptions import BundleDamagedError, InvalidInputError, OptionsError, UnknownLabelError
from mlclf.labels import Targets
from mlclf.metrics import macro_f1, micro_f1
from mlclf.threshold_tuning import tune_per_label
from mlclf.thresholds import Thresholds, as_thresholds, check_rule, tune

# Few distinct values, so that ties are common.
LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])


@st.composite
def problems(draw: st.DrawFn, max_rows: int = 12, max_labels: int = 5) -> tuple[np.ndarray, Targets]:
    """Probabilities and targets with some unknown cells."""
    shape = draw(st.integers(1, max_rows)), draw(st.integers(1, max_labels))
    probabilities = draw(arrays(np.float32, shape, elements=LEVELS))
    state = draw(arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 0, 1])))
    return probabilities, targets_of(state)


def targets_of(state: np.ndarray) -> Targets:
    """1 applies, 0 does not, -1 unknown."""
    unknown = csr_array(state == -1) if (state == -1).any() else None
    return Targets(csr_array((state == 1).astype(np.int8)), unknown)


def imbalanced(rows: int, seed: int) -> tuple[np.ndarray, Targets]:
    """Forty labels from frequent to rare and from easy to hard, with calibrated probabilities that are a bit off."""
    random = np.random.default_rng(seed)
    prior = np.geomspace(0.25, 0.002, 40)
    separation = np.tile([3.0, 1.5, 0.8, 2.0], 10)
    truth = random.random((rows, 40)) < prior
    score = random.normal(size=(rows, 40)) + separation * truth
    odds = separation * score - separation**2 / 2 + np.log(prior / (1 - prior))
    return (1 / (1 + np.exp(-odds))).astype(np.float32), targets_of(truth.astype(np.int8))


# --- the rule -------------------------------------------------------------------------------------------------------


def test_a_label_applies_from_its_threshold_on() -> None:
    assert Thresholds.per_label([0.5, 0.2]).apply([[0.5, 0.19], [0.49, 0.2]]).tolist() == [[True, False], [False, True]]


def test_a_threshold_given_in_double_precision_equals_the_same_probability() -> None:
    assert Thresholds.fixed(1, 0.3).apply(np.array([[0.3]])).all()
    assert Thresholds.fixed(1, 0.3).apply(np.array([[0.3]], dtype=np.float32)).all()


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_probability_zero_never_applies(form: type) -> None:
    found = Thresholds.fixed(2, 0.0).apply(form(np.array([[0.0, 0.1]])))
    assert np.asarray(found.todense() if hasattr(found, "todense") else found).astype(int).tolist() == [[0, 1]]


def test_result_is_bool_for_dense_and_int8_csr_for_sparse() -> None:
    p = np.array([[0.9, 0.1]])
    dense, sparse = (Thresholds.fixed(2).apply(x) for x in (p, csr_array(p)))
    assert dense.dtype == np.bool_
    assert isinstance(sparse, csr_array)
    assert sparse.dtype == np.int8
    assert sparse.nnz == 1


def test_rows_may_be_empty() -> None:
    assert not Thresholds.fixed(2).apply([[0.1, 0.2]]).any()
    assert Thresholds.fixed(2).apply(np.zeros((0, 2))).shape == (0, 2)


def test_top_k_serves_any_number_of_labels() -> None:
    top = Thresholds.top(2)
    assert top.apply([[0.1, 0.3, 0.2]]).tolist() == [[False, True, True]]
    assert top.apply([[0.1]]).tolist() == [[True]]


def test_top_k_prefers_the_first_column_among_equals() -> None:
    p = np.array([[0.4, 0.4, 0.4]])
    assert Thresholds.top(1).apply(p).tolist() == [[True, False, False]]
    assert Thresholds.top(1).apply(csr_array(p)).toarray().tolist() == [[1, 0, 0]]


def test_limit_keeps_thresholds_and_the_smaller_limit() -> None:
    limited = Thresholds.per_label([0.5, 0.1, 0.1]).limited(1)
    assert limited.apply([[0.4, 0.2, 0.3]]).tolist() == [[False, False, True]]
    assert limited.limited(5).top_k == 1
    assert limited.limited(None) == limited


@settings(deadline=None)
@given(problems(), arrays(np.float32, 5, elements=LEVELS), st.none() | st.integers(1, 4))
def test_apply_agrees_with_the_rule_cell_by_cell_dense_and_sparse(
    problem: tuple[np.ndarray, Targets], values: np.ndarray, top_k: int | None
) -> None:
    p = problem[0]
    rule = Thresholds(values[: p.shape[1]], top_k)
    expected = np.zeros(p.shape, dtype=bool)
    for i, row in enumerate(p):
        applies = [j for j, x in enumerate(row) if x >= rule.values[j] and x > 0]
        expected[i, sorted(applies, key=lambda j: (-row[j], j))[:top_k]] = True
    assert (rule.apply(p) == expected).all()
    found = rule.apply(csr_array(p))
    assert (found.toarray() == expected).all()
    assert found.has_sorted_indices


def test_apply_needs_no_scipy_for_dense_probabilities() -> None:
    program = "import sys, mlclf.thresholds as t; t.Thresholds.top(1).apply([[.1, .2]]); print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, csr_array])
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.nan, r"must not contain NaN, got one in row 1, column 0"),
        (3.5, r"between 0 and 1, got 3.5 in row 1, column 0. Pass what predict_proba gives"),
        (-0.5, r"between 0 and 1, got -0.5 in row 1, column 0"),
    ],
)
def test_values_that_are_no_probabilities_are_refused(form: type, cell: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Thresholds.fixed(2).apply(form(np.array([[0.1, 0.0], [cell, 0.2]])))


def test_another_number_of_columns_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"must have shape \(n_samples, 2\).*got \(1, 3\)"):
        Thresholds.fixed(2).apply([[0.1, 0.2, 0.3]])
    with pytest.raises(InvalidInputError, match="must have shape"):
        Thresholds.fixed(2).apply([0.1, 0.2])
    with pytest.raises(InvalidInputError, match="matrix of numbers, got list"):
        Thresholds.fixed(2).apply([["a", "b"]])


@pytest.mark.parametrize("values", [[0.5, np.nan], [0.5, 1.5], [0.5, -0.1]])
def test_thresholds_outside_zero_to_one_are_refused(values: list[float]) -> None:
    with pytest.raises(OptionsError, match=r"thresholds must be between 0 and 1, got .* for column 1"):
        Thresholds.per_label(values)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "2"])
def test_top_k_must_be_a_positive_whole_number(top_k: object) -> None:
    with pytest.raises(OptionsError, match="top_k must be a whole number of at least 1"):
        Thresholds.fixed(2).limited(top_k)  # type: ignore[arg-type]


def test_values_cannot_be_changed_in_place() -> None:
    values = np.array([0.5, 0.5], dtype=np.float32)
    thresholds = Thresholds(values)
    values[0] = 0.1
    assert thresholds.values[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        thresholds.values[0] = 0.1


# --- forms ----------------------------------------------------------------------------------------------------------


def test_every_form_of_thresholds() -> None:
    names, current = ("anger", "joy"), Thresholds.per_label([0.3, 0.4]).limited(1)
    assert as_thresholds(0.2, names, current) == Thresholds.fixed(2, 0.2)
    assert as_thresholds([0.1, 0.2], names, current) == Thresholds.per_label([0.1, 0.2])
    assert as_thresholds({"joy": 0.9}, names, current) == Thresholds.per_label([0.3, 0.9]).limited(1)
    assert len(as_thresholds(Thresholds.top(1), names, current).values) == 2
    assert as_thresholds(current, names, current) == current


def test_forms_that_say_nothing_are_refused() -> None:
    names, current = ("anger", "joy"), Thresholds.fixed(2)
    with pytest.raises(UnknownLabelError, match=r"name the label 'jov', .*Did you mean 'joy'"):
        as_thresholds({"jov": 0.9}, names, current)
    with pytest.raises(InvalidInputError, match="one number for each of 2 labels, got 3"):
        as_thresholds([0.1, 0.2, 0.3], names, current)
    with pytest.raises(OptionsError, match="once a model is fitted, got 'per-label'"):
        as_thresholds("per-label", names, current)
    with pytest.raises(OptionsError, match="must be numbers"):
        as_thresholds(object(), names, current)
    with pytest.raises(InvalidInputError, match="for 3 labels cannot serve 2"):
        as_thresholds(Thresholds.fixed(3), names, current)


@pytest.mark.parametrize("rule", ["per-label", "global", 0.3, 1, Thresholds.top(2)])
def test_rules_that_can_be_tuned_or_taken_are_accepted(rule: object) -> None:
    check_rule(rule)


@pytest.mark.parametrize("rule", ["perlabel", None, True, [0.5]])
def test_other_rules_are_refused(rule: object) -> None:
    with pytest.raises(OptionsError, match=r"'per-label' or 'global', a number .* pass Thresholds.top\(k\)"):
        check_rule(rule)


def test_a_number_outside_zero_to_one_is_no_rule() -> None:
    with pytest.raises(OptionsError, match="between 0 and 1, got 2"):
        check_rule(2)


@settings(deadline=None)
@given(arrays(np.float32, st.integers(1, 9), elements=st.floats(0, 1, width=32)), st.none() | st.integers(1, 9))
def test_json_gives_back_equal_thresholds(values: np.ndarray, top_k: int | None) -> None:
    thresholds = Thresholds(values, top_k, "per-label")
    back = Thresholds.from_json(json.loads(json.dumps(thresholds.to_json())))
    assert back == thresholds
    assert hash(back) == hash(thresholds)


@pytest.mark.parametrize(
    "change", [{"values": [2.0]}, {"values": "abc"}, {"values": None}, {"top_k": 0}, {"values": []}]
)
def test_damaged_json_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BundleDamagedError, match="saved thresholds cannot be read"):
        Thresholds.from_json({**Thresholds.fixed(2).to_json(), **change})
    with pytest.raises(BundleDamagedError, match="saved thresholds cannot be read"):
        Thresholds.from_json({})


# --- tuning ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(problems())
def test_global_threshold_is_the_best_of_all(problem: tuple[np.ndarray, Targets]) -> None:
    p, targets = problem
    found = micro_f1(tune("global", p, targets).apply(p), targets)
    others = [micro_f1(Thresholds.fixed(targets.n_labels, t).apply(p), targets) for t in (0.05, 0.2, 0.4, 0.6, 0.9, 1)]
    assert found >= max(others)


def test_global_threshold_stands_between_two_probabilities() -> None:
    targets = targets_of(np.array([[1], [0]]))
    assert tune("global", [[0.75], [0.25]], targets).values.tolist() == [0.5]


def test_global_threshold_separates_neighbouring_floats() -> None:
    high = np.float32(0.3)
    p = np.array([[high], [np.nextafter(high, np.float32(0))]])
    targets = targets_of(np.array([[1], [0]]))
    assert tune("global", p, targets).apply(p).tolist() == [[True], [False]]


def test_without_any_positive_the_threshold_is_a_half() -> None:
    targets = targets_of(np.zeros((20, 2), dtype=int))
    for rule in ("global", "per-label"):
        assert tune(rule, np.full((20, 2), 0.4), targets).values.tolist() == [0.5, 0.5]


@settings(max_examples=50, deadline=None)
@given(problems(max_rows=30))
def test_tuning_is_the_same_for_dense_and_sparse_and_repeats(problem: tuple[np.ndarray, Targets]) -> None:
    p, targets = problem
    for rule in ("global", "per-label"):
        first = tune(rule, p, targets)
        assert tune(rule, csr_array(p), targets) == first
        assert tune(rule, p.copy(), targets) == first


def test_tuning_in_small_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    p, targets = imbalanced(300, seed=0)
    whole = tune("per-label", p, targets)
    monkeypatch.setattr(ranked_cells, "_CHUNK_CELLS", 1000)
    assert tune("per-label", p, targets) == whole
    assert tune("per-label", csr_array(p), targets) == whole


def test_unknown_cells_play_no_part() -> None:
    p, targets = imbalanced(500, seed=1)
    state = targets.indicator.toarray().astype(np.int8)
    state[np.random.default_rng(0).random(state.shape) < 0.2] = -1
    other = np.where(state == -1, 1 - p, p)
    for rule in ("global", "per-label"):
        assert tune(rule, p, targets_of(state)) == tune(rule, other, targets_of(state))


def test_labels_without_positives_take_the_global_threshold() -> None:
    p, targets = imbalanced(500, seed=2)
    state = targets.indicator.toarray()
    state[:, 7] = 0
    values = tune("per-label", p, targets_of(state)).values
    assert values[7] == tune("global", p, targets_of(state)).values[0]


def test_few_rows_fall_back_to_the_global_threshold() -> None:
    p, targets = imbalanced(9, seed=3)
    assert tune("per-label", p, targets).values.tolist() == tune("global", p, targets).values.tolist()


def test_more_shrinkage_moves_every_label_closer_to_the_global_threshold() -> None:
    p, targets = imbalanced(1000, seed=4)
    middle = tune("global", p, targets).values[0]
    distances = [np.abs(tune_per_label(p, targets, (k,)).values - middle) for k in (0.1, 10.0, 1000.0, np.inf)]
    assert all((far >= near - 1e-6).all() for far, near in pairwise(distances))
    assert not distances[-1].any()


def test_rarer_labels_are_shrunk_more() -> None:
    p, targets = imbalanced(2000, seed=5)
    middle = tune("global", p, targets).values[0]
    free, shrunk = (tune_per_label(p, targets, (k,)).values for k in (0.0, 20.0))
    kept = np.abs(shrunk - middle) / np.maximum(np.abs(free - middle), 1e-3)
    assert kept[:10].mean() > kept[-10:].mean() + 0.2


def test_per_label_gains_macro_f1_and_keeps_micro_f1_on_new_rows() -> None:
    """Tuned on 2,000 rows and judged on 20,000 others, over four draws."""
    gains = []
    for seed in range(4):
        (p, targets), (p_new, new) = imbalanced(2000, seed), imbalanced(20_000, seed + 100)
        one, each = (tune(rule, p, targets).apply(p_new) for rule in ("global", "per-label"))
        gains.append((micro_f1(each, new) - micro_f1(one, new), macro_f1(each, new) - macro_f1(one, new)))
    micro, macro = np.mean(gains, axis=0)
    assert macro > 0.01
    assert micro > -0.005


def test_noise_alone_does_not_cost_micro_f1() -> None:
    """Where the global threshold is right for every label, tuning each label must not do harm."""
    random = np.random.default_rng(0)
    p = random.beta(0.3, 2.0, size=(12_000, 20)).astype(np.float32)
    targets = targets_of((random.random(p.shape) < p).astype(np.int8))
    rows = np.arange(len(p))
    dev, new = rows[:600], rows[600:]
    one, each = (tune(rule, p[dev], targets.take(dev)).apply(p[new]) for rule in ("global", "per-label"))
    assert micro_f1(each, targets.take(new)) > micro_f1(one, targets.take(new)) - 0.005


def test_saturated_probabilities_can_be_tuned() -> None:
    p = np.tile(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=np.float32), (10, 1))
    targets = targets_of((p > 0.5).astype(np.int8))
    for rule in ("global", "per-label"):
        assert micro_f1(tune(rule, p, targets).apply(p), targets) == 1.0


def test_tuning_refuses_what_does_not_fit() -> None:
    targets = targets_of(np.eye(3, dtype=np.int8))
    with pytest.raises(InvalidInputError, match="as many rows as each other, got 2 and 3"):
        tune("global", np.zeros((2, 3)), targets)
    with pytest.raises(InvalidInputError, match="must not contain NaN"):
        tune("per-label", np.full((3, 3), np.nan), targets)
    with pytest.raises(OptionsError, match="got 'best'"):
        tune("best", np.zeros((3, 3)), targets)
