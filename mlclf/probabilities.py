"""Probabilities as they come in: checked once, as float32, dense or CSR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Probabilities: TypeAlias = "NDArray[np.float32] | csr_array[np.float32, tuple[int, int]]"

# Log-odds are cut here: beyond it float32 probabilities near 1 differ by no more than their rounding.
_EDGE = 1e-7


def is_sparse(matrix: Any) -> bool:
    """Return whether a matrix is one of SciPy's sparse ones, without importing SciPy."""
    return hasattr(matrix, "tocsr") and hasattr(matrix, "nnz")


def checked_probabilities(probabilities: Any, n_labels: int, n_samples: int | None = None) -> Probabilities:
    """Return probabilities as a float32 array or CSR matrix, or say what is wrong with them.

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
        Marginal probabilities. A cell that a sparse matrix does not store has probability 0.
    n_labels : int
        Columns that there must be.
    n_samples : int, optional
        Rows that there must be.

    Returns
    -------
    ndarray or csr_array of float32, shape (n_samples, n_labels)
        CSR indices are sorted; no cell is stored twice.

    Raises
    ------
    InvalidInputError
        If the shape is another one, or a cell is NaN or outside 0 to 1.

    Examples
    --------
    >>> checked_probabilities([[0.25, 1]], n_labels=2).dtype
    dtype('float32')
    >>> checked_probabilities([[0.25, 3.5]], n_labels=2)
    Traceback (most recent call last):
    ...
    mlclf.exceptions.InvalidInputError: probabilities must be between 0 and 1, got 3.5 in row 0, column 1. ...
    """
    matrix = _as_csr(probabilities) if is_sparse(probabilities) else _as_array(probabilities)
    if matrix.ndim != 2 or matrix.shape[1] != n_labels:
        raise InvalidInputError(
            f"probabilities must have shape (n_samples, {n_labels}), one column for each label, got {matrix.shape}."
        )
    if n_samples is not None and matrix.shape[0] != n_samples:
        raise InvalidInputError(
            f"probabilities and targets must have as many rows as each other, got {matrix.shape[0]} and {n_samples}."
        )
    _check_range(matrix)
    return matrix


def log_odds(probabilities: Any) -> NDArray[np.float64]:
    """Return ``log(p / (1 - p))`` in double precision, finite at 0 and 1.

    Examples
    --------
    >>> log_odds([0.5]).tolist()
    [0.0]
    """
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-x))`` without overflow, exact for small results too; the inverse of :func:`log_odds`.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, -50.0, 0.0])).tolist()
    [0.0, 1.92...e-22, 0.5]
    """
    small = np.exp(-np.abs(log_odds))
    return np.asarray(np.where(log_odds < 0, small, 1) / (1 + small))


def _as_array(probabilities: Any) -> NDArray[np.float32]:
    try:
        return np.asarray(probabilities, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"probabilities must be a matrix of numbers, got {type(probabilities).__name__}: {error}."
        ) from error


def _as_csr(probabilities: Any) -> csr_array[np.float32, tuple[int, int]]:
    from scipy.sparse import csr_array

    matrix = csr_array(probabilities, dtype=np.float32)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def _check_range(matrix: Probabilities) -> None:
    values = matrix if isinstance(matrix, np.ndarray) else matrix.data
    # A NaN makes both comparisons false.
    if not values.size or (values.min() >= 0 and values.max() <= 1):
        return
    place = int(np.flatnonzero(~((values >= 0) & (values <= 1)))[0])
    if isinstance(matrix, np.ndarray):
        row, column = divmod(place, matrix.shape[1])
    else:
        row = int(np.searchsorted(matrix.indptr, place, side="right")) - 1
        column = int(matrix.indices[place])
    value = float(values.reshape(-1)[place])
    if np.isnan(value):
        raise InvalidInputError(
            f"probabilities must not contain NaN, got one in row {row}, column {column}. The model that gave it is "
            "broken: look at its loss and weights."
        )
    raise InvalidInputError(
        f"probabilities must be between 0 and 1, got {value:g} in row {row}, column {column}. "
        "Pass what predict_proba gives, not logits or decision_function."
    )
