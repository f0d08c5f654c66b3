"""Reading Y where each label is a column: arrays, data frames and sparse matrices of 0, 1 and unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.label_rows import Label, as_label, is_label_type

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Cells looked at in one go: keeps the temporary masks of a big array at a few MiB.
_BLOCK_CELLS = 1 << 22


@dataclass(frozen=True)
class Cells:
    """An indicator matrix as it came in.

    Parameters
    ----------
    indicator : csr_array of int8, shape (n_samples, n_columns)
    unknown : csr_array of bool, shape (n_samples, n_columns), or None
        Cells that nobody knows; None where there are none.
    names : tuple of str or int, length n_columns, or None
        Column names; None where the columns have none.
    """

    indicator: csr_array[Any, tuple[int, int]]
    unknown: csr_array[Any, tuple[int, int]] | None
    names: tuple[Label, ...] | None = None


def read_array(array: NDArray[Any]) -> Cells:
    """Read a two-dimensional array of 0, 1 and, where not known, NaN or -1."""
    from scipy.sparse import csr_array

    if array.dtype.kind not in "biuf":
        array = _numeric(array)
    step = max(1, _BLOCK_CELLS // max(1, array.shape[1]))
    positive, unknown = _Gather(array.shape), _Gather(array.shape)
    for start in range(0, len(array), step):
        block = array[start : start + step]
        ones, gaps = block == 1, _is_unknown(block)
        legal = ones | gaps | (block == 0)
        if not legal.all():
            row, column = np.argwhere(~legal)[0]
            _refuse_cell(block[row, column], start + int(row), int(column))
        positive.add(ones)
        unknown.add(gaps)
    return Cells(positive.csr(np.int8, csr_array), unknown.csr(np.bool_, csr_array) if unknown.count else None)


def read_sparse(matrix: Any) -> Cells:
    """Read a SciPy sparse matrix or array of 0, 1 and, where not known, NaN or -1."""
    from scipy.sparse import csr_array

    if matrix.ndim != 2:
        raise InvalidInputError(f"Sparse Y must be 2-D (n_samples, n_labels), got {matrix.ndim}-D.")
    # copy: summing duplicates and sorting work in place, and the caller keeps his matrix.
    csr = csr_array(matrix, copy=True)
    csr.sum_duplicates()
    ones, gaps = csr.data == 1, _is_unknown(csr.data)
    legal = ones | gaps | (csr.data == 0)
    if not legal.all():
        cell = int(np.argmin(legal))
        row = int(np.searchsorted(csr.indptr, cell, side="right")) - 1
        _refuse_cell(csr.data[cell], row, int(csr.indices[cell]))
    return Cells(_select(csr, ones, np.int8), _select(csr, gaps, np.bool_) if gaps.any() else None)


def read_frame(frame: Any) -> Cells:
    """Read a pandas DataFrame whose columns are the labels."""
    names = _column_names(list(frame.columns))
    if _is_sparse_frame(frame):
        cells = read_sparse(frame.sparse.to_coo())
    else:
        cells = read_array(_frame_values(frame))
    return Cells(cells.indicator, cells.unknown, names)


def frame_dtype(frame: Any) -> np.dtype[Any]:
    """Return the NumPy type that the cells of a DataFrame share; int8 where they share none."""
    kinds = {getattr(kind, "subtype", getattr(kind, "numpy_dtype", kind)) for kind in frame.dtypes}
    if not all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in kinds):
        return np.dtype(np.int8)
    return np.result_type(*kinds) if kinds else np.dtype(np.int8)


def _is_sparse_frame(frame: Any) -> bool:
    """Return whether every column has pandas' sparse type with 0 left out."""
    return len(frame.columns) > 0 and all(
        hasattr(kind, "fill_value") and kind.fill_value == 0 for kind in frame.dtypes
    )


def _frame_values(frame: Any) -> NDArray[Any]:
    if all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in frame.dtypes):
        return np.asarray(frame)
    if any(not isinstance(kind, np.dtype) and kind.kind not in "biuf" for kind in frame.dtypes):
        return _numeric(frame.to_numpy(dtype=object))
    if any(kind == object for kind in frame.dtypes):
        return _numeric(frame.to_numpy(dtype=object))
    values: NDArray[Any] = frame.to_numpy(dtype=np.float32, na_value=np.nan)
    return values


def _column_names(columns: list[Any]) -> tuple[Label, ...]:
    for column in columns:
        if not is_label_type(type(column)):
            raise InvalidInputError(
                f"Column {column!r} of Y has a name of type {type(column).__name__}; label names must be str or int. "
                "Rename it: Y.columns = [...]."
            )
    return tuple(as_label(column) for column in columns)


def _numeric(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an object array of numbers, bools, None and NaN as float64, None becoming NaN."""
    flat = array.reshape(-1)
    if array.dtype != object or any(issubclass(kind, (str, bytes)) for kind in set(map(type, flat))):
        raise InvalidInputError(
            f"Y is a 2-D array of {array.dtype} with text in it, for example {_first_text(flat)!r}. "
            "An indicator matrix holds 0 and 1; for label names pass one list a row: [list(row) for row in Y]."
        )
    missing = np.fromiter((value is None or value != value is True for value in flat), np.bool_, count=flat.size)
    try:
        return np.where(missing, np.nan, flat).astype(np.float64).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Y must hold 0, 1 and, where not known, NaN or -1: {error}.") from error


def _first_text(flat: NDArray[Any]) -> Any:
    return next((value for value in flat.tolist() if isinstance(value, (str, bytes))), flat.tolist()[0])


def _is_unknown(block: NDArray[Any]) -> NDArray[np.bool_]:
    if block.dtype.kind in "bu":
        return np.zeros(block.shape, dtype=np.bool_)
    gaps: NDArray[np.bool_] = block == -1
    if block.dtype.kind == "f":
        gaps |= np.isnan(block)
    return gaps


def _refuse_cell(value: Any, row: int, column: int) -> None:
    raise InvalidInputError(
        f"Y must hold 0, 1 and, where not known, NaN or -1; got {value} in row {row}, column {column}. "
        "Turn scores into 0 and 1 first, for example (Y > 0.5).astype(int)."
    )


class _Gather:
    """Collects the true cells of row blocks as one CSR matrix."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.columns: list[NDArray[np.int32]] = []
        self.lengths: list[NDArray[np.int64]] = []
        self.count = 0

    def add(self, mask: NDArray[np.bool_]) -> None:
        """Add the next rows."""
        columns = np.nonzero(mask)[1].astype(np.int32)
        self.columns.append(columns)
        self.lengths.append(np.count_nonzero(mask, axis=1))
        self.count += len(columns)

    def csr(self, dtype: type[np.generic], make: Callable[..., Any]) -> Any:
        """Return all rows as a CSR matrix of ones."""
        lengths = np.concatenate([np.zeros(1, dtype=np.int64), *self.lengths])
        columns = np.concatenate([np.zeros(0, dtype=np.int32), *self.columns])
        return make((np.ones(self.count, dtype=dtype), columns, np.cumsum(lengths)), shape=self.shape)


def _select(csr: Any, keep: NDArray[np.bool_], dtype: type[np.generic]) -> Any:
    """Return the stored cells that ``keep`` marks as a matrix of ones."""
    kept = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(keep)])[csr.indptr]
    return type(csr)((np.ones(int(keep.sum()), dtype=dtype), csr.indices[keep], kept), shape=csr.shape)
