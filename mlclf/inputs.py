"""Inputs of the estimator: texts, labels, weights and seed, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.labels import LabelSpace
from mlclf.options import NamedOptions, Options
from mlclf.plugins.registry import resolve_named
from mlclf.rows import Rows
from mlclf.texts import as_texts


def checked_rows(X: Any, Y: Any, sample_weight: Any, labels: LabelSpace) -> Rows:
    """Return labelled texts in mlclf's own form.

    Raises
    ------
    InvalidInputError
        If texts, labels or weights have a wrong form or differ in length.
    """
    texts = as_texts(X)
    targets = labels.encode(Y, n_samples=len(texts))
    return Rows(texts, targets, checked_weights(sample_weight, len(texts)))


def checked_validation(validation_data: Any, labels: LabelSpace) -> Rows:
    """Return the rows of ``validation_data=(X, Y)``.

    Raises
    ------
    InvalidInputError
        If it is no pair, or its texts or labels have a wrong form.
    """
    if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
        raise InvalidInputError(
            f"validation_data must be a pair (X, Y), got {type(validation_data).__name__}. "
            "Pass validation_data=(X_val, Y_val)."
        )
    X, Y = validation_data
    return checked_rows(X, Y, None, labels)


def checked_weights(sample_weight: Any, n_samples: int) -> NDArray[np.float32]:
    """Return sample weights as an array; None means one each.

    Raises
    ------
    InvalidInputError
        If there is not one finite, non-negative weight a text, or all are zero.
    """
    if sample_weight is None:
        return np.ones(n_samples, dtype=np.float32)
    weights = np.asarray(sample_weight, dtype=np.float32)
    if weights.shape != (n_samples,):
        raise InvalidInputError(
            f"sample_weight must have one number for each of the {n_samples} texts, got shape {weights.shape}. "
            "Weights of labels belong into the head: BceOptions(label_weights={...})."
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise InvalidInputError(
            f"sample_weight must be finite and not negative, got {weights[bad[0]]} in row {bad[0]}. "
            "Use 0 to leave a row out."
        )
    if not weights.any():
        raise InvalidInputError("sample_weight is 0 for every text: there is nothing to learn from.")
    return weights


def check_validation(share: float | None) -> None:
    """Check the estimator's ``validation``.

    Raises
    ------
    OptionsError
        If the share is not between 0 and 1.
    """
    if share is not None and not (isinstance(share, float | int) and 0 <= share < 1):
        raise OptionsError(
            f"validation must be a share of the rows from 0 to below 1, or None, got {share!r}. "
            "Rows of your own are given to fit: fit(X, Y, validation_data=(X_val, Y_val))."
        )


def calibration_options(calibration: str | Mapping[str, Any] | Options | None) -> NamedOptions | None:
    """Return the options of the calibrator that the estimator's ``calibration`` chooses.

    Raises
    ------
    OptionsError, UnknownComponentError, PluginError
        If there is no such calibrator, it cannot be used, or an option breaks its rule.
    """
    return None if calibration is None else cast(NamedOptions, resolve_named("calibrator", calibration))


def shortest_choice(options: Options) -> str | Options:
    """Return the name of a component where it stands for these options, else the options."""
    return options.component if options == type(options)() else options


def random_seed(random_state: int | np.random.RandomState | np.random.Generator | None) -> int:
    """Return one seed from any form of ``random_state``; None draws one from the operating system.

    Raises
    ------
    OptionsError
        If it is no integer, RandomState, Generator or None.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    raise OptionsError(
        f"random_state must be a non-negative int, a numpy RandomState or Generator, or None, got {random_state!r}."
    )
