"""Which form Y has, and how predictions are given back in that form."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError
from mlclf.label_cells import Cells, frame_dtype, is_sparse_frame, read_array, read_frame, read_sparse
from mlclf.label_rows import LabelRows, read_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from mlclf.label_cells import Csr


@dataclass(frozen=True)
class YFormat:
    """How Y came in, so that ``predict`` can answer in kind.

    Parameters
    ----------
    kind : {"rows", "array", "frame", "sparse-array", "sparse-matrix"}
        Label names a row (lists, sets, dictionaries); array; DataFrame; SciPy's sparse array or sparse matrix. A
        DataFrame of pandas' sparse type is a sparse array.
    dtype : str
        Name of the NumPy type of the cells; ``"int8"`` for rows of label names.

    Examples
    --------
    >>> import numpy as np
    >>> y_format(np.array([[True, False], [False, True]]))
    YFormat(kind='array', dtype='bool')
    >>> y_format([["joy"], []])
    YFormat(kind='rows', dtype='int8')
    """

    kind: Literal["rows", "array", "frame", "sparse-array", "sparse-matrix"] = "rows"
    dtype: str = "int8"

    @property
    def sparse(self) -> bool:
        """Whether predictions are given back as CSR."""
        return self.kind in ("sparse-array", "sparse-matrix")

    def restore(self, indicator: NDArray[Any] | Csr) -> NDArray[Any] | Csr | csr_matrix[Any]:
        """Return an indicator matrix in the form that Y had.

        Parameters
        ----------
        indicator : ndarray or csr_array, shape (n_samples, n_labels)
            True or 1 where the label applies.

        Returns
        -------
        ndarray, csr_array or csr_matrix, shape (n_samples, n_labels)
            Of type ``dtype``; CSR where Y was sparse.
        """
        typed: Any = indicator.astype(np.dtype(self.dtype))
        if not self.sparse:
            dense: NDArray[Any] = typed if isinstance(typed, np.ndarray) else typed.toarray()
            return dense
        from scipy.sparse import csr_array, csr_matrix

        return csr_array(typed) if self.kind == "sparse-array" else csr_matrix(typed)


def y_format(Y: Any) -> YFormat:
    """Say which form Y has; its content is not checked.

    Parameters
    ----------
    Y : label lists, array, DataFrame or sparse matrix
        See :meth:`mlclf.labels.LabelSpace.infer`.

    Returns
    -------
    YFormat
    """
    if hasattr(Y, "tocsr"):
        from scipy.sparse import sparray

        return YFormat("sparse-array" if isinstance(Y, sparray) else "sparse-matrix", str(Y.dtype))
    if _is_frame(Y):
        return YFormat("sparse-array" if is_sparse_frame(Y) else "frame", str(frame_dtype(Y)))
    Y = _plain(Y)
    if isinstance(Y, np.ndarray) and Y.ndim != 1:
        return YFormat("array", str(Y.dtype) if Y.dtype.kind in "biuf" else "int8")
    return YFormat()


def read_labels(Y: Any) -> Cells | LabelRows:
    """Read Y in whatever form it has.

    Parameters
    ----------
    Y : label lists, array, DataFrame or sparse matrix
        See :meth:`mlclf.labels.LabelSpace.infer`.

    Returns
    -------
    Cells or LabelRows
        Columns, or rows of names.

    Raises
    ------
    InvalidInputError
        If Y has none of the forms, or is empty, or a row or cell means nothing.
    """
    if hasattr(Y, "tocsr"):
        return _not_empty(read_sparse(Y))
    if _is_frame(Y):
        return _not_empty(read_frame(Y))
    Y = _plain(Y)
    if isinstance(Y, np.ndarray) and Y.ndim != 1:
        if Y.ndim != 2:
            raise InvalidInputError(f"Y as an array must be 2-D (n_samples, n_labels), got shape {Y.shape}.")
        return _not_empty(read_array(Y))
    return read_rows(_as_rows(Y))


def _is_frame(Y: Any) -> bool:
    return hasattr(Y, "iloc") and hasattr(Y, "columns")


def _plain(Y: Any) -> Any:
    """Return anything that converts to an array as one; masked cells become NaN, which means not known."""
    if isinstance(Y, np.ma.MaskedArray):
        return np.ma.filled(Y.astype(np.float64), np.nan)
    return np.asarray(Y) if hasattr(Y, "__array__") and not hasattr(Y, "iloc") else Y


def _as_rows(Y: Any) -> list[Any]:
    if isinstance(Y, (str, bytes, Mapping)):
        raise InvalidInputError(
            f"Y must hold the labels of many texts, got a single {type(Y).__name__}. Pass a list with one entry a text."
        )
    if isinstance(Y, Set):
        raise InvalidInputError(
            f"Y is a {type(Y).__name__}, which has no order to match the texts. Pass a list of sets."
        )
    if not hasattr(Y, "__len__"):
        raise InvalidInputError(
            f"Y must be a list, array, DataFrame or sparse matrix, got {type(Y).__name__}. "
            "Labels are read more than once: make it a list."
        )
    if not len(Y):
        raise InvalidInputError("Y is empty. Pass one row of labels for each text.")
    return list(Y)


def _not_empty(cells: Cells) -> Cells:
    if 0 in cells.indicator.shape:
        raise InvalidInputError(
            f"Y is empty: its shape is {cells.indicator.shape}. Pass one row for each text and one column a label."
        )
    return cells
