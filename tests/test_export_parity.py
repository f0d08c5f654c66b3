"""The proof: what counts as the same answer, and what an export that fails it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlclf.exceptions import ParityError
from mlclf.onnx.golden import golden_texts, varied_texts
from mlclf.onnx.parity import Parity, Reference, check_parity
from mlclf.thresholds import Thresholds

NAMES = ("joy", "fear", 3)
TEXTS = [f"text {number}" for number in range(12)]


class Runtime:
    """Answers with given probabilities, and by given thresholds."""

    def __init__(self, probabilities: NDArray[np.float32], thresholds: Thresholds, batch: float = 0.0) -> None:
        self.answers = {text: row for text, row in zip(TEXTS, probabilities, strict=True)}
        self.thresholds, self.batch = thresholds, batch

    def predict_proba(self, X: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows, moved where they are asked for in small batches."""
        rows = np.stack([self.answers[text] for text in X])
        return rows + np.float32(self.batch if len(X) < len(TEXTS) else 0)

    def predict_labels(self, X: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the names of what applies."""
        found = self.thresholds.apply(np.clip(np.nan_to_num(self.predict_proba(X)), 0, 1))
        return [tuple(NAMES[column] for column in np.flatnonzero(row)) for row in found]


def probabilities(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0.1, 0.9, size=(len(TEXTS), len(NAMES))).astype(np.float32)


def compare(
    found: NDArray[np.float32],
    precision: Any = "fp32",
    thresholds: Thresholds | None = None,
    batch: float = 0.0,
    expected: NDArray[np.float32] | None = None,
) -> Parity:
    rule = Thresholds.fixed(3) if thresholds is None else thresholds
    right = probabilities() if expected is None else expected
    return check_parity(Reference(TEXTS, NAMES, right, rule), Runtime(found, rule, batch), precision)


def test_equal_answers_pass() -> None:
    parity = compare(probabilities())
    assert (parity.max_change, parity.labels_changed, parity.n_rows, parity.n_cells) == (0.0, 0, 12, 36)


def test_small_differences_are_measured() -> None:
    found = probabilities()
    found[2, 1] += 5e-5
    assert compare(found).max_change == pytest.approx(5e-5, rel=0.01)


@pytest.mark.parametrize("value", [0.0005, float("nan"), float("inf")])
def test_large_differences_name_row_and_label(value: float) -> None:
    found = probabilities()
    found[4, 1] += np.float32(value)
    with pytest.raises(ParityError, match=r"in 1 of 12 texts \(probabilities\): row 4 \('text 4'\): label 'fear'"):
        compare(found)


def test_only_the_first_rows_are_named() -> None:
    with pytest.raises(ParityError, match=r"12 of 12 texts .*row 4 [^;]*; and 7 more\. Nothing was written"):
        compare(probabilities() + np.float32(0.01))


def test_last_digits_that_calibration_magnifies_are_no_difference() -> None:
    rule, expected = Thresholds.fixed(3), probabilities()
    found, slack = expected.copy(), np.zeros(expected.shape)
    found[4, 1] += 5e-4
    slack[4, 1] = 1e-3
    parity = check_parity(Reference(TEXTS, NAMES, expected, rule, slack), Runtime(found, rule), "fp32")
    assert parity.max_change == pytest.approx(5e-4, rel=0.01)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_precisions_may_move_probabilities_and_labels(precision: str) -> None:
    expected = np.full((12, 3), 0.495, dtype=np.float32)
    parity = compare(expected + np.float32(0.008), precision, expected=expected)
    assert parity.labels_changed == 36
    assert parity.labels_at_threshold == 0


@pytest.mark.parametrize(("precision", "shift"), [("fp16", 0.02), ("int8", 0.08)])
def test_a_shift_of_everything_is_no_rounding(precision: str, shift: float) -> None:
    with pytest.raises(ParityError, match="probabilities, on average"):
        compare(probabilities() + np.float32(shift), precision)


def test_label_at_its_threshold_is_explained() -> None:
    expected = probabilities()
    expected[3, 0] = 0.49999
    found = expected.copy()
    found[3, 0] = 0.50001
    parity = compare(found, expected=expected)
    assert (parity.labels_changed, parity.labels_at_threshold) == (1, 1)


def test_label_that_differs_for_no_reason_is_refused() -> None:
    class Wrong(Runtime):
        def predict_labels(self, X: Sequence[str]) -> list[tuple[Any, ...]]:
            return [()] * len(X)

    rule = Thresholds.fixed(3)
    with pytest.raises(ParityError, match=r"texts \(labels\)"):
        check_parity(Reference(TEXTS, NAMES, probabilities(), rule), Wrong(probabilities(), rule), "fp32")


def test_ties_between_labels_are_explained_where_a_row_keeps_k() -> None:
    expected = probabilities()
    expected[5] = (0.7, 0.70001, 0.2)
    found = expected.copy()
    found[5] = (0.70001, 0.7, 0.2)
    parity = compare(found, thresholds=Thresholds.fixed(3, 0.05).limited(1), expected=expected)
    assert (parity.labels_changed, parity.labels_at_threshold) == (2, 2)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_answers_that_depend_on_the_batch_are_refused(precision: str) -> None:
    with pytest.raises(ParityError, match="among all texts, then in a small batch"):
        compare(probabilities(), precision, batch=0.02)


@pytest.mark.parametrize("max_length", [8, 64, 512, 8192])
def test_built_in_texts_have_many_lengths(max_length: int) -> None:
    lengths = {len(text.split()) for text in varied_texts(max_length)}
    assert min(lengths) == 0
    assert max(lengths) > min(max_length, 1024)
    assert len(lengths) > 8
    assert set(golden_texts(max_length)) <= set(varied_texts(max_length))
