"""Which labels apply, given probabilities and thresholds: dense with NumPy alone, sparse without going dense."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
