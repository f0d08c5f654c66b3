"""Which labels apply or come first, given probabilities: dense with NumPy alone, sparse without going dense."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import OptionsError


def decide_dense(
    probabilities: NDArray[np.float32], values: NDArray[np.float32], top_k: int | None
) -> NDArray[np.bool_]:
    """Return which labels apply, for a dense matrix.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (n_samples, n_labels)
    values : ndarray of float32, shape (n_labels,) or (1,)
        Smallest probability at which each label applies.
    top_k : int or None
        Most labels that a row keeps, the most probable ones; ties in column order.

    Returns
    -------
    ndarray of bool, shape (n_samples, n_labels)
    """
    applies = (probabilities >= values) & (probabilities > 0)
    if top_k is None:
        return applies
    crowded = np.flatnonzero(applies.sum(axis=1) > top_k)
    ranked = np.where(applies[crowded], probabilities[crowded], -1)
    best = np.argsort(-ranked, axis=1, kind="stable")[:, :top_k]
    applies[crowded] = False
    applies[crowded[:, None], best] = True
    return applies


def decide_sparse(probabilities: Any, values: NDArray[np.float32], top_k: int | None) -> Any:
    """Return which labels apply, for a CSR matrix; :func:`decide_dense` says how.

    Returns
    -------
    csr_array of int8, shape (n_samples, n_labels)
        Sorted, without stored zeros.
    """
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(probabilities.shape[0]), np.diff(probabilities.indptr))
    cells = np.flatnonzero((probabilities.data >= values[probabilities.indices]) & (probabilities.data > 0))
    if top_k is not None:
        ranked = cells[np.lexsort((-probabilities.data[cells], rows[cells]))]
        first = np.searchsorted(rows[ranked], rows[ranked])
        cells = np.sort(ranked[np.arange(len(ranked)) - first < top_k])
    counts = np.bincount(rows[cells], minlength=probabilities.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    ones = np.ones(len(cells), dtype=np.int8)
    return csr_array((ones, probabilities.indices[cells], indptr), shape=probabilities.shape)


def top_columns(probabilities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the ``k`` largest values of each row, largest first, ties in column order.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (n_samples, n_labels)
    k : int
        At most ``n_labels``.

    Returns
    -------
    ndarray of int64, shape (n_samples, k)

    Examples
    --------
    >>> import numpy as np
    >>> top_columns(np.array([[0.2, 0.7, 0.7]], dtype=np.float32), 2).tolist()
    [[1, 2]]
    """
    n_labels = probabilities.shape[1]
    if k < n_labels:
        found = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
        cut = np.take_along_axis(probabilities, found, axis=1).min(axis=1, keepdims=True)
        # argpartition may pick any of the values equal to the smallest kept one: take them in column order.
        if np.any((probabilities >= cut).sum(axis=1) > k):
            return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        found.sort(axis=1)
    else:
        found = np.broadcast_to(np.arange(n_labels), probabilities.shape)
    order = np.argsort(-np.take_along_axis(probabilities, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def checked_k(k: Any, n_labels: int) -> int:
    """Return how many labels are wanted of each text.

    Parameters
    ----------
    k : int
    n_labels : int
        Labels that there are.

    Returns
    -------
    int

    Raises
    ------
    OptionsError
        If ``k`` is no whole number between 1 and ``n_labels``.

    Examples
    --------
    >>> checked_k(3, n_labels=28)
    3
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or not 1 <= k <= n_labels:
        raise OptionsError(f"k must be between 1 and the {n_labels} labels, got {k!r}.")
    return int(k)
