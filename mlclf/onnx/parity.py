"""Parity: the exported folder, used as its users will, answers what the fitted model answers, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlclf.calibration import PlattScaling
from mlclf.exceptions import ParityError
from mlclf.onnx.entries import Precision
from mlclf.thresholds import Thresholds

# A probability closer than this to its threshold may fall on either side.
_ROUNDING = 1e-4

# Of a float32 below 1, twice, because both sides round.
_LAST_DIGIT = np.finfo(np.float32).eps

# Rows that are also run one by one and in small batches.
_ALONE = 24
_SMALL_BATCHES = (1, 3, 7)

_NAMED_ROWS, _SHOWN = 5, 40


class Predictor(Protocol):
    """What parity asks of a runtime."""

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return probabilities, shape (n_samples, n_labels)."""
        ...

    def predict_labels(self, X: Any) -> list[tuple[Any, ...]]:
        """Return label sets."""
        ...


@dataclass(frozen=True)
class Allowed:
    """Differences that a precision may cause; beyond them the graph is wrong, not rounded.

    Parameters
    ----------
    largest, mean : float
        Of a probability against torch.
    batch : float
        Of a probability between a row alone and the same row in a batch.
    labels_equal : bool
        Whether every label must be the same, except where a probability lies within 1e-4 of its threshold.
    """

    largest: float
    mean: float
    batch: float
    labels_equal: bool


# float32 differs by rounding alone (measured: below 1e-6). Of float16 and 8-bit weights these are bounds that only a
# broken graph passes; what they really changed is reported.
ALLOWED: dict[Precision, Allowed] = {
    "fp32": Allowed(largest=_ROUNDING, mean=_ROUNDING, batch=_ROUNDING, labels_equal=True),
    "fp16": Allowed(largest=0.1, mean=0.01, batch=0.01, labels_equal=False),
    "int8": Allowed(largest=0.6, mean=0.05, batch=_ROUNDING, labels_equal=False),
}


@dataclass(frozen=True)
class Parity:
    """What was measured against torch.

    Parameters
    ----------
    n_rows : int
        Texts that were compared.
    max_change, mean_change : float
        Of a probability against torch.
    batch_change : float
        Largest change of a probability between a row alone, in small batches and among all rows.
    n_cells : int
        Texts times labels.
    labels_changed : int
        Cells whose label differs from torch.
    labels_at_threshold : int
        Those of them where torch's probability lies so close to the threshold that rounding decides.
    """

    n_rows: int
    max_change: float
    mean_change: float
    batch_change: float
    n_cells: int
    labels_changed: int
    labels_at_threshold: int

    def to_json(self, precision: Precision) -> dict[str, Any]:
        """Return the content of the manifest's field ``parity``."""
        return {**asdict(self), "allowed": asdict(ALLOWED[precision])}


@dataclass(frozen=True)
class Reference:
    """Answers of the fitted model.

    Parameters
    ----------
    texts : sequence of str
    names : sequence of str or int
        Label names in column order.
    probabilities : ndarray of float32, shape (n_texts, n_labels)
    thresholds : Thresholds
    slack : ndarray of float, shape (n_texts, n_labels), or float
        By how much the last digit of a cell's float32 is magnified: calibration stretches probabilities close to 1.
    """

    texts: Sequence[str]
    names: Sequence[str | int]
    probabilities: NDArray[np.float32]
    thresholds: Thresholds
    slack: NDArray[np.floating[Any]] | float = 0.0


def check_parity(reference: Reference, runtime: Predictor, precision: Precision) -> Parity:
    """Compare an exported folder with the model that it was made from.

    Parameters
    ----------
    reference : Reference
        Answers of the model.
    runtime : Predictor
        The folder, loaded.
    precision : {"fp32", "fp16", "int8"}
        Says what may differ.

    Returns
    -------
    Parity

    Raises
    ------
    ParityError
        If they differ by more than that; it names the rows.

    Examples
    --------
    >>> class Runtime:
    ...     def predict_proba(self, X):
    ...         return np.full((len(X), 1), 0.75, dtype=np.float32)
    ...     def predict_labels(self, X):
    ...         return [("joy",) for _ in X]
    >>> right = np.array([[0.75], [0.75]], dtype=np.float32)
    >>> check_parity(Reference(["a", "b"], ["joy"], right, Thresholds.fixed(1)), Runtime(), "fp32").labels_changed
    0
    >>> wrong = np.array([[0.75], [0.25]], dtype=np.float32)
    >>> check_parity(Reference(["a", "b"], ["joy"], wrong, Thresholds.fixed(1)), Runtime(), "fp32")
    Traceback (most recent call last):
    ...
    mlclf.exceptions.ParityError: The exported model (fp32) differs from the fitted one in 1 of 2 texts ...
    """
    allowed, expected = ALLOWED[precision], reference.probabilities
    complaint = _Complaint(reference, precision)
    found = runtime.predict_proba(reference.texts)
    change = _difference(found, expected)
    complaint.unless(change <= allowed.largest + reference.slack, "probabilities", expected, found)
    if change.mean() > allowed.mean:
        complaint.unless(change <= allowed.mean, "probabilities, on average", expected, found)
    changed = _label_cells(runtime.predict_labels(reference.texts), reference) != reference.thresholds.apply(expected)
    explained = changed & _undecided(reference)
    if allowed.labels_equal:
        complaint.unless(~changed | explained, "labels", expected, found)
    alone = _in_small_batches(reference.texts, found, runtime.predict_proba)
    batch_change = _difference(alone, found)
    steady = batch_change <= allowed.batch + reference.slack
    complaint.unless(steady, "among all texts, then in a small batch", found, alone)
    return Parity(
        n_rows=len(reference.texts),
        max_change=float(change.max()),
        mean_change=float(change.mean()),
        batch_change=float(batch_change.max()),
        n_cells=change.size,
        labels_changed=int(changed.sum()),
        labels_at_threshold=int(explained.sum()),
    )


def calibration_slack(
    calibrator: PlattScaling | None, probabilities: NDArray[np.float32]
) -> NDArray[np.float32] | float:
    """Return by how much calibration magnifies the last digit of probabilities.

    Parameters
    ----------
    calibrator : PlattScaling or None
    probabilities : ndarray of float32, shape (n_samples, n_labels)
        Before calibration.

    Returns
    -------
    ndarray of float32, shape (n_samples, n_labels), or 0.0
        0.0 without a calibrator.

    Examples
    --------
    >>> p = np.array([[0.5, 0.9999997]], dtype=np.float32)
    >>> slack = calibration_slack(PlattScaling([0.3, 0.3], [0, 0]), p)
    >>> bool(slack[0, 0] < 1e-6), bool(slack[0, 1] > 1e-3)
    (True, True)
    """
    if calibrator is None:
        return 0.0
    above, below = (np.clip(probabilities + step, 0, 1) for step in (_LAST_DIGIT, -_LAST_DIGIT))
    slack: NDArray[np.float32] = calibrator.apply(above) - calibrator.apply(below)
    return slack


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far apart two matrices are, infinite where a number is not finite."""
    change = np.abs(found.astype(np.float64) - expected)
    return np.where(np.isfinite(change), change, np.inf)


def _label_cells(answers: list[tuple[Any, ...]], reference: Reference) -> NDArray[np.bool_]:
    """Return label sets as cells, bool ``(n_texts, n_labels)``."""
    column = {name: index for index, name in enumerate(reference.names)}
    cells = np.zeros(reference.probabilities.shape, dtype=bool)
    for row, answer in enumerate(answers):
        cells[row, [column[name] for name in answer]] = True
    return cells


def _undecided(reference: Reference) -> NDArray[np.bool_]:
    """Tell in which cells rounding may change the label: close to a threshold, or to another label."""
    p = reference.probabilities
    close: NDArray[np.bool_] = np.abs(p - reference.thresholds.values) <= _ROUNDING + reference.slack
    return close if reference.thresholds.top_k is None else close | _tied(p, _ROUNDING)


def _tied(probabilities: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
    """Tell which cells have another one of their row within ``margin``: which of them ranks first is open."""
    order = np.argsort(probabilities, axis=1)
    near = np.diff(np.take_along_axis(probabilities, order, axis=1), axis=1) <= margin
    tied = np.zeros(probabilities.shape, dtype=bool)
    np.put_along_axis(tied, order, np.pad(near, ((0, 0), (1, 0))) | np.pad(near, ((0, 0), (0, 1))), axis=1)
    return tied


def _in_small_batches(
    texts: Sequence[str], together: NDArray[np.float32], predict: Callable[[Any], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return for some rows the answers in batches of other sizes that differ most, and for other rows the same ones."""
    rows = np.unique(np.linspace(0, len(texts) - 1, num=min(_ALONE, len(texts))).astype(int))
    worst = together.copy()
    for size in _SMALL_BATCHES:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            answers = predict([texts[row] for row in batch])
            further = _difference(answers, together[batch]) > _difference(worst[batch], together[batch])
            worst[batch] = np.where(further, answers, worst[batch])
    return worst


@dataclass(frozen=True)
class _Complaint:
    """Raises ParityError, naming the rows."""

    reference: Reference
    precision: Precision

    def unless(
        self, right: NDArray[np.bool_], what: str, expected: NDArray[np.float32], found: NDArray[np.float32]
    ) -> None:
        rows = np.flatnonzero(~right.all(axis=1))
        if not len(rows):
            return
        named = [self._row(row, int(np.argmin(right[row])), expected, found) for row in rows[:_NAMED_ROWS]]
        more = f"; and {len(rows) - len(named)} more" if len(rows) > len(named) else ""
        raise ParityError(
            f"The exported model ({self.precision}) differs from the fitted one in {len(rows)} of "
            f"{len(self.reference.texts)} texts ({what}): {'; '.join(named)}{more}. Nothing was written. Try another "
            "opset or precision; if backbone or head is your own, look for operations that depend on sizes seen while "
            "exporting."
        )

    def _row(self, row: int, column: int, expected: NDArray[np.float32], found: NDArray[np.float32]) -> str:
        text = self.reference.texts[row]
        shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
        name = self.reference.names[column]
        return f"row {row} ({shown}): label {name!r} {found[row, column]:.6f} instead of {expected[row, column]:.6f}"
