"""Reading Y where each label is a column: arrays, data frames and sparse matrices of 0, 1 and unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.label_names import Label, as_label, is_label_type
from mlclf.label_rows import is_missing

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Csr: TypeAlias = csr_array[Any, tuple[int, int]]

# Cells looked at in one go: keeps the temporary masks of a big array at a few MiB.
_BLOCK_CELLS = 1 << 22
_NUMBERS = "biuf"
_RULE = "Y must hold 0, 1 and, where not known, NaN or -1"


@dataclass(frozen=True)
class Cells:
    """An indicator matrix as it came in.

    Parameters
    ----------
    indicator : csr_array of int8, shape (n_samples, n_columns)
        1 where the label applies.
    unknown : csr_array of bool, shape (n_samples, n_columns), or None
        True where it is not known whether the label applies; None where all is known.
    names : tuple of str or int, length n_columns, or None
        Column names; None where the columns have none.
    """

    indicator: Csr
    unknown: Csr | None
    names: tuple[Label, ...] | None = None

    def __len__(self) -> int:
        return self.indicator.shape[0]


def read_array(array: NDArray[Any]) -> Cells:
    """Read a two-dimensional array of 0, 1 and, where not known, NaN or -1.

    Parameters
    ----------
    array : ndarray, shape (n_samples, n_columns)
        Numbers, bools, or objects that are such; None counts as not known.

    Raises
    ------
    InvalidInputError
        If a cell is anything else; the message names the first.
    """
    from scipy.sparse import csr_array, vstack

    if array.dtype.kind not in _NUMBERS:
        array = _as_numbers(array)
    step = max(1, _BLOCK_CELLS // max(1, array.shape[1]))
    positive, unknown = [], []
    for start in range(0, max(1, len(array)), step):
        ones, gaps, illegal = _classify(array[start : start + step])
        if illegal.any():
            row, column = np.argwhere(illegal)[0].tolist()
            _refuse_cell(array[start + row, column], start + row, column)
        positive.append(csr_array(ones, dtype=np.int8))
        unknown.append(csr_array(gaps))
    return _cells(vstack(positive, format="csr"), vstack(unknown, format="csr"))


def read_sparse(matrix: Any) -> Cells:
    """Read a SciPy sparse matrix or array of 0, 1 and, where not known, NaN or -1.

    Parameters
    ----------
    matrix : sparse matrix or array, shape (n_samples, n_columns)
        Cells that are not stored are 0.

    Raises
    ------
    InvalidInputError
        If a cell is anything else, or the matrix is not two-dimensional.
    """
    from scipy.sparse import csr_array

    if matrix.ndim != 2 or matrix.dtype.kind not in _NUMBERS:
        raise InvalidInputError(
            f"Y as a sparse matrix must be 2-D (n_samples, n_labels) of numbers, got {matrix.ndim}-D of {matrix.dtype}."
        )
    # Copied because duplicates are summed and rows sorted in place, and the matrix is the caller's.
    csr = csr_array(matrix, copy=True)
    csr.sum_duplicates()
    ones, gaps, illegal = _classify(csr.data)
    if illegal.any():
        cell = int(np.argmax(illegal))
        row = int(np.searchsorted(csr.indptr, cell, side="right")) - 1
        _refuse_cell(csr.data[cell], row, int(csr.indices[cell]))
    return _cells(_kept(csr, ones).astype(np.int8), _kept(csr, gaps))


def read_frame(frame: Any) -> Cells:
    """Read a pandas DataFrame whose columns are the labels.

    Parameters
    ----------
    frame : DataFrame, shape (n_samples, n_columns)
        Of numbers, bools, pandas' nullable or sparse types.

    Raises
    ------
    InvalidInputError
        If a column name is no label name, or a cell is neither 0 nor 1 nor unknown.
    """
    for column in frame.columns:
        if not is_label_type(type(column)):
            raise InvalidInputError(
                f"Column {column!r} of Y has a name of type {type(column).__name__}; label names must be str or int. "
                "Rename it: Y.columns = [...]."
            )
    cells = read_sparse(frame.sparse.to_coo()) if is_sparse_frame(frame) else read_array(_frame_values(frame))
    return Cells(cells.indicator, cells.unknown, tuple(map(as_label, frame.columns)))


def is_sparse_frame(frame: Any) -> bool:
    """Return whether all columns have pandas' sparse type and leave 0 out."""
    return len(frame.columns) > 0 and all(getattr(kind, "fill_value", None) == 0 for kind in frame.dtypes)


def frame_dtype(frame: Any) -> np.dtype[Any]:
    """Return the NumPy type that all cells of a DataFrame have in common; int8 where they are no numbers."""
    # Sparse types name the type of their cells "subtype", nullable ones "numpy_dtype".
    kinds = {getattr(kind, "subtype", getattr(kind, "numpy_dtype", kind)) for kind in frame.dtypes}
    if not kinds or not all(isinstance(kind, np.dtype) and kind.kind in _NUMBERS for kind in kinds):
        return np.dtype(np.int8)
    return np.result_type(*kinds)


def _frame_values(frame: Any) -> NDArray[Any]:
    """Return the cells of a DataFrame as numbers, missing ones as NaN; text is refused."""
    if any(kind.kind not in _NUMBERS for kind in frame.dtypes):
        return _as_numbers(frame.to_numpy(dtype=object))
    if all(isinstance(kind, np.dtype) for kind in frame.dtypes):
        return np.asarray(frame.to_numpy(dtype=frame_dtype(frame)))
    return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))


def _as_numbers(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array of number objects, bools and missing values as float64."""
    flat = array.reshape(-1).tolist()
    for value in flat:
        if isinstance(value, (str, bytes)):
            raise InvalidInputError(
                f"{_RULE}; got the text {value!r}. For label names pass one list a row: [list(row) for row in Y]."
            )
        if isinstance(value, (list, tuple, set, frozenset, dict, np.ndarray)):
            raise InvalidInputError(
                f"{_RULE}; got {value!r}. For rows of label names pass the column alone, for example Y['labels']."
            )
    try:
        numbers = np.array([np.nan if is_missing(value) else value for value in flat], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{_RULE}; {error}.") from error
    return numbers.reshape(array.shape)


def _classify(block: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which cells are positive, which are unknown, and which are neither these nor 0."""
    if block.dtype.kind == "b":
        nowhere = np.zeros(block.shape, dtype=np.bool_)
        return block, nowhere, nowhere
    ones, gaps = block == 1, block == -1
    if block.dtype.kind == "f":
        gaps |= np.isnan(block)
    return ones, gaps, ~(ones | gaps | (block == 0))


def _refuse_cell(value: Any, row: int, column: int) -> None:
    raise InvalidInputError(
        f"{_RULE}; got {value} in row {row}, column {column}. "
        "Turn scores into 0 and 1 first, for example (Y > 0.5).astype(int)."
    )


def _kept(csr: Csr, keep: NDArray[np.bool_]) -> Csr:
    """Return a matrix that is true at those stored cells which ``keep`` marks."""
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(keep)])
    return type(csr)((np.ones(int(before[-1]), np.bool_), csr.indices[keep], before[csr.indptr]), shape=csr.shape)


def _cells(indicator: Csr, unknown: Csr) -> Cells:
    return Cells(indicator, unknown if unknown.nnz else None)
