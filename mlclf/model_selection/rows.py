"""Rows of anything that has rows: lists, arrays, frames and sparse matrices, each kept as what it is."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

# SciPy's formats whose rows can be picked; the others become CSR first.
_ROW_FORMATS = ("csr", "csc", "lil")


def indexable(data: Any) -> Any:
    """Return data whose rows can be picked more than once: a generator becomes a list."""
    if hasattr(data, "iloc") or isinstance(data, (list, tuple, np.ndarray)):
        return data
    if hasattr(data, "tocsr"):
        return data if data.format in _ROW_FORMATS else data.tocsr()
    if hasattr(data, "__array__"):
        return np.asarray(data)
    return list(data)


def n_rows(data: Any) -> int:
    """Return the number of rows of texts, labels or weights."""
    if hasattr(data, "shape"):
        return int(data.shape[0])
    return len(data) if isinstance(data, Sized) else len(np.asarray(data))


def take(data: Any, rows: NDArray[np.int64]) -> Any:
    """Return some rows, in the type that the data has.

    Parameters
    ----------
    data : list, tuple, array, Series, DataFrame or sparse matrix
        As :func:`indexable` returns it.
    rows : ndarray of int64, shape (n,)
    """
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    if isinstance(data, (list, tuple)):
        picked = [data[row] for row in rows.tolist()]
        return tuple(picked) if isinstance(data, tuple) else picked
    return data[rows]
