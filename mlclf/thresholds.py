"""Thresholds: from which probability on a label applies. The one place where probabilities become labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlclf.decisions import decide_dense, decide_sparse
from mlclf.exceptions import BundleDamagedError, InvalidInputError, OptionsError, UnknownLabelError
from mlclf.hints import did_you_mean
from mlclf.probabilities import checked_probabilities

if TYPE_CHECKING:
    from mlclf.targets import Targets

logger = logging.getLogger(__name__)

RULES = ("per-label", "global")


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The rule that turns probabilities into labels.

    A label applies where its probability is at least its threshold and above 0; of these labels, each row keeps the
    ``top_k`` most probable ones. Comparison is in float32. Between equal probabilities, the first column wins.

    Parameters
    ----------
    values : ndarray of float32, shape (n_labels,) or (1,)
        Threshold of each label, between 0 and 1; a single value serves any number of labels.
    top_k : int or None
        Most labels that a row may have.
    rule : str
        How the values were found: ``"fixed"``, ``"global"``, ``"per-label"``, ``"top-k"``, or ``"untuned"`` where
        there were no rows to tune on.

    Raises
    ------
    OptionsError
        If a value is not between 0 and 1, or ``top_k`` is not a whole number of at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> thresholds = Thresholds.per_label([0.5, 0.2])
    >>> thresholds.apply(np.array([[0.5, 0.3], [0.4, 0.1]])).tolist()
    [[True, True], [False, False]]
    >>> thresholds.limited(1).apply(np.array([[0.5, 0.3]])).tolist()
    [[True, False]]
    """

    values: NDArray[np.float32]
    top_k: int | None = None
    rule: str = "fixed"

    def __post_init__(self) -> None:
        values = _checked_values(self.values)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        if self.top_k is not None:
            object.__setattr__(self, "top_k", _checked_top_k(self.top_k))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Thresholds):
            return NotImplemented
        same = self.top_k == other.top_k and self.rule == other.rule
        return same and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.values.tobytes(), self.top_k, self.rule))

    @classmethod
    def fixed(cls, n_labels: int, value: float = 0.5) -> Thresholds:
        """Return one given threshold for all labels."""
        return cls(np.full(n_labels, value, dtype=np.float32), rule="fixed")

    @classmethod
    def untuned(cls, n_labels: int) -> Thresholds:
        """Return 0.5 for all labels, for want of rows to tune on."""
        return cls(np.full(n_labels, 0.5, dtype=np.float32), rule="untuned")

    @classmethod
    def global_(cls, n_labels: int, value: float) -> Thresholds:
        """Return one tuned threshold for all labels."""
        return cls(np.full(n_labels, value, dtype=np.float32), rule="global")

    @classmethod
    def per_label(cls, values: Sequence[float] | NDArray[Any]) -> Thresholds:
        """Return a threshold for each label."""
        return cls(values, rule="per-label")  # type: ignore[arg-type]  # checked and converted

    @classmethod
    def top(cls, k: int) -> Thresholds:
        """Return the rule that gives every row its ``k`` most probable labels, however many labels there are."""
        return cls(np.zeros(1, dtype=np.float32), top_k=k, rule="top-k")

    def apply(self, probabilities: Any) -> Any:
        """Return which labels apply.

        Parameters
        ----------
        probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
            Marginal probabilities. A cell that a sparse matrix does not store has probability 0, at which a label
            never applies.

        Returns
        -------
        ndarray of bool, or csr_array of int8 for a sparse matrix, shape (n_samples, n_labels)

        Raises
        ------
        InvalidInputError
            If there are not as many columns as thresholds, or a cell is NaN or outside 0 to 1.
        """
        n_labels = np.shape(probabilities)[-1] if len(self.values) == 1 else len(self.values)
        checked = checked_probabilities(probabilities, n_labels)
        if isinstance(checked, np.ndarray):
            return decide_dense(checked, self.values, self.top_k)
        return decide_sparse(checked, self.for_labels(n_labels).values, self.top_k)

    def limited(self, top_k: int | None) -> Thresholds:
        """Return the same thresholds with at most ``top_k`` labels a row; None lifts no limit that is there."""
        if top_k is None:
            return self
        limit = _checked_top_k(top_k)
        return replace(self, top_k=limit if self.top_k is None else min(limit, self.top_k))

    def with_values(self, changes: Mapping[int, float], n_labels: int) -> Thresholds:
        """Return a copy with the thresholds of some columns changed.

        Examples
        --------
        >>> Thresholds.fixed(3).with_values({1: 0.25}, n_labels=3).values.tolist()
        [0.5, 0.25, 0.5]
        """
        values = self.for_labels(n_labels).values.copy()
        for column, value in changes.items():
            values[column] = value
        return replace(self, values=values, rule="per-label")

    def for_labels(self, n_labels: int) -> Thresholds:
        """Return the same rule with one value for each of ``n_labels`` labels.

        Raises
        ------
        InvalidInputError
            If the thresholds are for another number of labels.
        """
        if len(self.values) not in (1, n_labels):
            raise InvalidInputError(f"Thresholds for {len(self.values)} labels cannot serve {n_labels} labels.")
        return replace(self, values=np.broadcast_to(self.values, (n_labels,)))

    def extended(self, n_labels: int) -> Thresholds:
        """Return the same rule for more labels: further ones have the value that all have, else 0.5.

        Examples
        --------
        >>> Thresholds.per_label([0.25, 0.75]).extended(3).values.tolist()
        [0.25, 0.75, 0.5]
        >>> Thresholds.fixed(2, 0.25).extended(3).values.tolist()
        [0.25, 0.25, 0.25]
        """
        one = len(np.unique(self.values)) == 1 and self.rule != "per-label"
        added = np.full(max(0, n_labels - len(self.values)), self.values[0] if one else 0.5, dtype=np.float32)
        return self if len(self.values) == 1 else replace(self, values=np.concatenate([self.values, added]))

    @property
    def request(self) -> str | float | Thresholds:
        """What an estimator is given to tune or fix thresholds as these were: a rule, a number, or these."""
        if self.rule == "untuned":
            return RULES[0]
        if self.rule in RULES and self.top_k is None:
            return self.rule
        if self.rule == "fixed" and self.top_k is None and len(np.unique(self.values)) == 1:
            return float(self.values[0])
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the thresholds as JSON-ready values; :meth:`from_json` gives back equal ones."""
        return {"rule": self.rule, "top_k": self.top_k, "values": [float(value) for value in self.values]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds that :meth:`to_json` wrote.

        Raises
        ------
        BundleDamagedError
            If the saved values are none that it writes.

        Examples
        --------
        >>> Thresholds.from_json(Thresholds.top(3).to_json()).top_k
        3
        """
        try:
            return cls(saved["values"], saved["top_k"], str(saved["rule"]))
        except (KeyError, TypeError, OptionsError) as error:
            raise BundleDamagedError(f"The saved thresholds cannot be read: {error}.") from error


def tune(rule: str, probabilities: Any, targets: Targets) -> Thresholds:
    """Tune thresholds on validation rows.

    Parameters
    ----------
    rule : {"per-label", "global"}
        One threshold for each label, protected against rare labels and against losing micro-F1
        (:mod:`mlclf.threshold_tuning` says how), or the one that maximises micro-F1.
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
        Marginal probabilities of rows that the model was not trained on.
    targets : Targets
        Of the same shape; unknown cells are left out.

    Returns
    -------
    Thresholds

    Raises
    ------
    OptionsError
        If there is no such rule.
    InvalidInputError
        If probabilities do not fit the targets, or a cell is NaN or outside 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["a", "b"]])
    >>> tune("global", np.array([[0.5, 0.25], [0.75, 0.5]]), targets).values.tolist()
    [0.375, 0.375]
    """
    from mlclf.global_threshold import tune_global
    from mlclf.threshold_tuning import tune_per_label

    check_rule(rule)
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    if rule == "global":
        return Thresholds.global_(targets.n_labels, tune_global(checked, targets).threshold)
    found = tune_per_label(checked, targets)
    logger.info("Thresholds per label: shrunk towards the global one by n / (n + %g).", found.shrinkage)
    return Thresholds.per_label(found.values)


def check_rule(rule: Any) -> None:
    """Refuse what says nothing about thresholds.

    Parameters
    ----------
    rule : str, float or Thresholds
        A rule of :func:`tune`, a number for all labels, or given thresholds.

    Raises
    ------
    OptionsError
        If it is none of them.

    Examples
    --------
    >>> check_rule("per-label")
    """
    if isinstance(rule, Thresholds) or (isinstance(rule, str) and rule in RULES):
        return
    if _is_number(rule):
        _checked_values([rule])
        return
    raise OptionsError(
        f"thresholds must be {' or '.join(map(repr, RULES))}, a number between 0 and 1, or Thresholds, got {rule!r}. "
        "For the k most probable labels pass Thresholds.top(k)."
    )


def as_thresholds(given: Any, names: Sequence[str | int], current: Thresholds) -> Thresholds:
    """Turn every form in which a user gives thresholds into thresholds.

    Parameters
    ----------
    given : float, mapping, array-like or Thresholds
        One number for all labels, ``{label: number}``, one number a label, or thresholds.
    names : sequence of str or int, length n_labels
        Label names in column order.
    current : Thresholds
        Of the labels that a mapping leaves out.

    Returns
    -------
    Thresholds
        With one value for each label.

    Raises
    ------
    UnknownLabelError
        If a mapping names a label that there is not.
    OptionsError
        If a value is not between 0 and 1.
    InvalidInputError
        If there are not as many numbers as labels.

    Examples
    --------
    >>> as_thresholds({"joy": 0.25}, ("anger", "joy"), Thresholds.fixed(2)).values.tolist()
    [0.5, 0.25]
    """
    if isinstance(given, Thresholds):
        return given.for_labels(len(names))
    if _is_number(given):
        return Thresholds.fixed(len(names), float(given))
    if isinstance(given, Mapping):
        return current.with_values({_column(label, names): given[label] for label in given}, len(names))
    if isinstance(given, str):
        raise OptionsError(
            f"thresholds must be numbers or Thresholds once a model is fitted, got {given!r}. "
            "Tune on rows of your own with mlclf.thresholds.tune(rule, probabilities, targets)."
        )
    values = _checked_values(given)
    if len(values) != len(names):
        raise InvalidInputError(f"thresholds must be one number for each of {len(names)} labels, got {len(values)}.")
    return Thresholds.per_label(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _checked_values(values: Any) -> NDArray[np.float32]:
    """Return a copy as float32, or say which value is wrong."""
    try:
        array = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise OptionsError(f"thresholds must be numbers, got {values!r}.") from error
    if array.ndim != 1 or not len(array):
        raise OptionsError(f"thresholds must be one number for each label, got an array of shape {array.shape}.")
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise OptionsError(f"thresholds must be between 0 and 1, got {float(array[column]):g} for column {column}.")
    return array


def _checked_top_k(top_k: Any) -> int:
    if not isinstance(top_k, int | np.integer) or isinstance(top_k, bool) or top_k < 1:
        raise OptionsError(f"top_k must be a whole number of at least 1, or None for no limit, got {top_k!r}.")
    return int(top_k)


def _column(label: Any, names: Sequence[str | int]) -> int:
    try:
        return names.index(label)
    except ValueError:
        raise UnknownLabelError(
            f"thresholds name the label {label!r}, which the model does not have.{did_you_mean(label, names)}"
        ) from None
