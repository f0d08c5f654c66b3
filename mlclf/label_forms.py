"""Which form Y has, and how predictions are given back in that form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.label_cells import Cells, frame_dtype, read_array, read_frame, read_sparse
from mlclf.label_rows import LabelRows, read_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array, csr_matrix

Kind = Literal["rows", "array", "frame", "sparse-array", "sparse-matrix"]


@dataclass(frozen=True)
class YFormat:
    """How Y came in, so that ``predict`` can answer in kind.

    Parameters
    ----------
    kind : {"rows", "array", "frame", "sparse-array", "sparse-matrix"}
        Label names a row (lists, sets, dictionaries); array; DataFrame; SciPy's sparse array or sparse matrix.
    dtype : str
        NumPy type of the cells, ``"int8"`` for rows of label names.

    Examples
    --------
    >>> import numpy as np
    >>> y_format(np.array([[True, False], [False, True]]))
    YFormat(kind='array', dtype='bool')
    >>> y_format([["joy"], []])
    YFormat(kind='rows', dtype='int8')
    """

    kind: Kind = "rows"
    dtype: str = "int8"

    @property
    def sparse(self) -> bool:
        """Whether predictions are given back as CSR."""
        return self.kind.startswith("sparse")

    def restore(
        self, indicator: csr_array[Any, tuple[int, int]]
    ) -> NDArray[Any] | csr_array[Any, tuple[int, int]] | csr_matrix[Any]:
        """Return an indicator matrix in the form that Y had.

        Parameters
        ----------
        indicator : csr_array of int8, shape (n_samples, n_labels)

        Returns
        -------
        ndarray, csr_array or csr_matrix, shape (n_samples, n_labels)
            Of type ``dtype``; CSR where Y was sparse.
        """
        typed = indicator.astype(np.dtype(self.dtype))
        if self.kind == "sparse-array":
            return typed
        if self.kind == "sparse-matrix":
            from scipy.sparse import csr_matrix

            return csr_matrix(typed)
        return typed.toarray()


def y_format(Y: Any) -> YFormat:
    """Say which form Y has.

    Parameters
    ----------
    Y : label lists, array, DataFrame or sparse matrix
        See :meth:`mlclf.labels.LabelSpace.infer`.

    Returns
    -------
    YFormat

    Raises
    ------
    InvalidInputError
        If Y has none of the forms.
    """
    if hasattr(Y, "tocsr"):
        from scipy.sparse import sparray

        return YFormat("sparse-array" if isinstance(Y, sparray) else "sparse-matrix", str(Y.dtype))
    if _is_frame(Y):
        return _frame_format(Y)
    if _is_array(Y):
        dtype = np.asarray(Y).dtype
        return YFormat("array", str(dtype) if dtype.kind in "biuf" else "int8")
    return YFormat("rows")


def read_labels(Y: Any) -> Cells | LabelRows:
    """Read Y in whatever form it has.

    Raises
    ------
    InvalidInputError
        If Y has none of the forms, or no row, or a row or cell that means nothing.
    """
    if isinstance(Y, (str, bytes)) or isinstance(Y, Mapping):
        raise InvalidInputError(
            f"Y must hold the labels of many texts, got a single {type(Y).__name__}. Wrap it: [['joy', 'anger']]."
        )
    if hasattr(Y, "tocsr"):
        return _not_empty(read_sparse(Y))
    if _is_frame(Y):
        return _not_empty(read_frame(Y))
    if _is_array(Y):
        return _not_empty(read_array(_plain_array(Y)))
    return read_rows(_as_rows(Y))


def _is_frame(Y: Any) -> bool:
    return hasattr(Y, "iloc") and hasattr(Y, "columns")


def _is_array(Y: Any) -> bool:
    """Return whether Y is a two-dimensional array."""
    if isinstance(Y, np.ndarray):
        return Y.ndim != 1
    return hasattr(Y, "__array__") and not hasattr(Y, "iloc") and np.asarray(Y).ndim != 1


def _frame_format(frame: Any) -> YFormat:
    sparse = len(frame.columns) > 0 and all(hasattr(kind, "fill_value") for kind in frame.dtypes)
    return YFormat("sparse-array" if sparse else "frame", str(frame_dtype(frame)))


def _plain_array(Y: Any) -> NDArray[Any]:
    """Return an array without subclass; masked cells become NaN, which means not known."""
    array: NDArray[Any] = Y.astype(np.float32).filled(np.nan) if np.ma.isMaskedArray(Y) else np.asarray(Y)
    if array.ndim != 2:
        raise InvalidInputError(f"Y as an array must be 2-D (n_samples, n_labels), got shape {array.shape}.")
    return array


def _as_rows(Y: Any) -> list[Any]:
    if not hasattr(Y, "__len__"):
        raise InvalidInputError(
            f"Y must be a list, array, DataFrame or sparse matrix, got {type(Y).__name__}. "
            "Labels are read more than once: pass list(Y)."
        )
    if isinstance(Y, (set, frozenset)):
        raise InvalidInputError("Y is a set, which has no order to match the texts. Pass a list of label sets.")
    if not len(Y):
        raise InvalidInputError("Y is empty. Pass one row of labels for each text.")
    return Y.tolist() if isinstance(Y, np.ndarray) else list(Y)


def _not_empty(cells: Cells) -> Cells:
    if 0 in cells.indicator.shape:
        raise InvalidInputError(
            f"Y is empty: shape {cells.indicator.shape}. Pass one row for each text and one column for each label."
        )
    return cells
