"""Figures of decisions: precision, recall and F1 by label and averaged, Hamming loss, subset accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.probabilities import is_sparse
from mlclf.targets import Targets


@dataclass(frozen=True)
class Policy:
    """What counts where a figure is not defined.

    Parameters
    ----------
    zero_division : float
        Precision of a label that is never predicted, recall of a label that applies to no row, F1 where both hold.
        Such labels count in macro averages; a label of which no cell is known does not.
    empty_rows : float
        What a row without true labels counts in sample averages, if none is predicted for it, and in label ranking
        average precision. A row where only one of the two sides is empty counts 0 in sample averages.

    Examples
    --------
    >>> Policy().zero_division, Policy().empty_rows
    (0.0, 1.0)
    """

    zero_division: float = 0.0
    empty_rows: float = 1.0

    def describe(self) -> str:
        """Return the policy in sentences."""
        return (
            f"a label that is never predicted has precision {self.zero_division:g}, one that never applies has recall "
            f"{self.zero_division:g}; both count in macro averages. A row without true labels counts "
            f"{self.empty_rows:g} in sample averages if none is predicted for it, else 0; {self.empty_rows:g} in LRAP; "
            "and is left out of P@k. Labels that never apply are left out of mean average precision. Unknown cells are "
            "left out of everything."
        )


@dataclass(frozen=True)
class Average:
    """Precision, recall and F1, averaged in one of four ways."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class LabelFigures:
    """Figures of each label.

    Parameters
    ----------
    predicted : ndarray of int64, shape (n_labels,)
        Known cells in which the label is predicted.
    precision, recall, f1 : ndarray of float64, shape (n_labels,)
    """

    predicted: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


@dataclass(frozen=True)
class DecisionFigures:
    """All figures of one set of decisions.

    Parameters
    ----------
    micro : Average
        Over all cells.
    macro : Average
        Mean over labels.
    weighted : Average
        Mean over labels, each weighted by the rows to which it applies; not weighted where no label applies to any.
    samples : Average
        Mean over rows.
    subset_accuracy : float
        Share of rows whose whole label set is right.
    hamming_loss : float
        Share of known cells that are wrong.
    empty_predicted : int
        Rows for which no label is predicted.
    labels : LabelFigures
    """

    micro: Average
    macro: Average
    weighted: Average
    samples: Average
    subset_accuracy: float
    hamming_loss: float
    empty_predicted: int
    labels: LabelFigures


@dataclass(frozen=True)
class Counts:
    """How decisions and truth agree, by label and by row.

    Parameters
    ----------
    hits, predicted, positives, known : ndarray of int64, shape (n_labels,)
        Cells of each label: true and predicted, predicted, true, known.
    row_hits, row_predicted, row_positives, row_known : ndarray of int64, shape (n_samples,)
        The same of each row. ``row_positives`` has labels in it that the label space lacks: they count as missed.
    """

    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    positives: NDArray[np.int64]
    known: NDArray[np.int64]
    row_hits: NDArray[np.int64]
    row_predicted: NDArray[np.int64]
    row_positives: NDArray[np.int64]
    row_known: NDArray[np.int64]


def count(predicted: Any, targets: Targets) -> Counts:
    """Count how decisions and truth agree.

    Parameters
    ----------
    predicted : array-like or sparse matrix, shape (n_samples, n_labels)
        Indicator matrix: 1 or True where the label is predicted.
    targets : Targets
        Of the same shape; unknown cells are left out.

    Returns
    -------
    Counts

    Raises
    ------
    InvalidInputError
        If ``predicted`` has another shape or holds something else than 0 and 1.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["a", "b"]])
    >>> count([[1, 1], [0, 1]], targets).hits.tolist()
    [1, 1]
    """
    chosen = _checked_indicator(predicted, (len(targets), targets.n_labels))
    shape = (len(targets), targets.n_labels)
    hit_rows, hit_columns = _where_chosen(chosen, targets.indicator)
    by_label, by_row = _chosen_counts(chosen)
    row_known = np.full(shape[0], shape[1], dtype=np.int64)
    if targets.unknown is not None:
        rows, columns = _where_chosen(chosen, targets.unknown)
        by_label = by_label - np.bincount(columns, minlength=shape[1])
        by_row = by_row - np.bincount(rows, minlength=shape[0])
        row_known -= np.diff(targets.unknown.indptr)
    row_positives = np.diff(targets.indicator.indptr).astype(np.int64)
    if targets.dropped_per_row is not None:
        row_positives = row_positives + targets.dropped_per_row
    return Counts(
        hits=np.bincount(hit_columns, minlength=shape[1]),
        predicted=by_label,
        positives=targets.positives,
        known=targets.known_counts,
        row_hits=np.bincount(hit_rows, minlength=shape[0]),
        row_predicted=by_row,
        row_positives=row_positives,
        row_known=row_known,
    )


def decision_figures(counts: Counts, policy: Policy) -> DecisionFigures:
    """Compute all figures from counts.

    Parameters
    ----------
    counts : Counts
    policy : Policy

    Returns
    -------
    DecisionFigures
        Averages over nothing (no row, no known cell) are NaN.
    """
    labels = label_figures(counts, policy)
    known = counts.known > 0
    weights = counts.positives[known].astype(np.float64)
    each = [values[known] for values in (labels.precision, labels.recall, labels.f1)]
    wrong = counts.predicted.sum() + counts.positives.sum() - 2 * counts.hits.sum()
    rows = counts.row_known > 0
    exact = (counts.row_hits == counts.row_predicted) & (counts.row_hits == counts.row_positives)
    return DecisionFigures(
        micro=micro_average(counts, policy),
        macro=Average(*(_mean(values) for values in each)),
        weighted=Average(*(_mean(values, weights if weights.any() else None) for values in each)),
        samples=_sample_average(counts, policy),
        subset_accuracy=_mean(exact[rows]),
        hamming_loss=float(wrong / counts.known.sum()) if known.any() else float("nan"),
        empty_predicted=int((counts.row_predicted[rows] == 0).sum()),
        labels=labels,
    )


def label_figures(counts: Counts, policy: Policy) -> LabelFigures:
    """Compute precision, recall and F1 of each label."""
    undefined = policy.zero_division
    return LabelFigures(
        counts.predicted,
        _ratio(counts.hits, counts.predicted, undefined),
        _ratio(counts.hits, counts.positives, undefined),
        _ratio(2 * counts.hits, counts.predicted + counts.positives, undefined),
    )


def micro_average(counts: Counts, policy: Policy) -> Average:
    """Compute precision, recall and F1 over all cells."""
    hits, predicted, positives = counts.row_hits.sum(), counts.row_predicted.sum(), counts.row_positives.sum()
    parts = (hits, predicted), (hits, positives), (2 * hits, predicted + positives)
    return Average(*(float(_ratio(part, whole, policy.zero_division)) for part, whole in parts))


def _sample_average(counts: Counts, policy: Policy) -> Average:
    rows = counts.row_known > 0
    hits, predicted, positives = counts.row_hits[rows], counts.row_predicted[rows], counts.row_positives[rows]
    empty = (predicted == 0) & (positives == 0)
    parts = (hits, predicted), (hits, positives), (2 * hits, predicted + positives)
    return Average(*(_mean(np.where(empty, policy.empty_rows, _ratio(part, whole, 0.0))) for part, whole in parts))


def _ratio(part: Any, whole: Any, undefined: float) -> NDArray[np.float64]:
    return np.asarray(np.where(whole > 0, part / np.maximum(whole, 1), undefined), dtype=np.float64)


def _mean(values: Any, weights: Any = None) -> float:
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def _checked_indicator(predicted: Any, shape: tuple[int, int]) -> Any:
    """Return an array of bool or a CSR matrix without stored zeros."""
    matrix = _as_csr(predicted) if is_sparse(predicted) else np.asarray(predicted)
    values = matrix if isinstance(matrix, np.ndarray) else matrix.data
    if matrix.shape != shape:
        raise InvalidInputError(f"predicted must have shape {shape}, one cell for each target, got {matrix.shape}.")
    if values.dtype != np.bool_ and not ((values == 0) | (values == 1)).all():
        raise InvalidInputError(
            "predicted must be an indicator matrix of 0 and 1, got other values. "
            "Turn probabilities into one with Thresholds.apply(probabilities)."
        )
    if isinstance(matrix, np.ndarray):
        return matrix.astype(np.bool_, copy=False)
    matrix = matrix.astype(np.bool_)
    matrix.eliminate_zeros()
    return matrix


def _as_csr(matrix: Any) -> Any:
    from scipy.sparse import csr_array

    converted = csr_array(matrix)
    if not converted.has_canonical_format:
        converted = converted.copy()
        converted.sum_duplicates()
    return converted


def _where_chosen(chosen: Any, cells: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of those stored cells of a CSR matrix that are chosen."""
    if isinstance(chosen, np.ndarray):
        rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
        found = chosen[rows, cells.indices]
        return rows[found], cells.indices[found]
    rows, columns = chosen.multiply(cells.astype(np.bool_)).nonzero()
    return rows, columns


def _chosen_counts(chosen: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count chosen cells by column and by row."""
    if isinstance(chosen, np.ndarray):
        return np.count_nonzero(chosen, axis=0), np.count_nonzero(chosen, axis=1)
    by_column = np.bincount(chosen.indices, minlength=chosen.shape[1])
    return by_column, np.diff(chosen.indptr).astype(np.int64)
