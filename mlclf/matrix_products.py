"""Products of linear layers on a processor, by the faster of the libraries that torch has.

torch multiplies matrices of float32 with MKL, which leaves the widest registers of AMD's processors unused; oneDNN,
which torch ships as well, uses them and takes half the time there. In bfloat16 both are oneDNN, and calling it directly
adds the bias on the way instead of in a pass of its own.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from mlclf.timing import speedup

# Faster by this factor, or MKL stays: a difference of a few per cent is not worth other rounding.
_GAIN = 1.2


def affine(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``rows @ weight.T + bias``; not recorded by autograd.

    Parameters
    ----------
    rows : Tensor, shape (n_rows, in_features)
    weight : Tensor, shape (out_features, in_features)
        Of the type of the rows, as is the bias.
    bias : Tensor, shape (out_features,), or None

    Returns
    -------
    Tensor, shape (n_rows, out_features)

    Examples
    --------
    >>> affine(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(3))
    tensor([[2., 2., 2.]])
    """
    if is_direct_faster(rows) or (bias is not None and _takes_bfloat16(rows)):
        return _direct(rows, weight, bias)
    return functional.linear(rows, weight, bias)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right``; not recorded by autograd.

    Parameters
    ----------
    left, right : Tensor, shapes (n_rows, n_inner) and (n_inner, n_columns)

    Returns
    -------
    Tensor, shape (n_rows, n_columns)

    Examples
    --------
    >>> product(torch.ones(1, 2), torch.ones(2, 3))
    tensor([[2., 2., 2.]])
    """
    if is_direct_faster(left):
        return _direct(left, right.t(), None)
    return torch.mm(left, right)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add ``left @ right`` to a matrix in place and return it; not recorded by autograd.

    Parameters
    ----------
    total : Tensor, shape (n_rows, n_columns)
    left, right : Tensor, shapes (n_rows, n_inner) and (n_inner, n_columns)

    Examples
    --------
    >>> add_product(torch.ones(1, 3), torch.ones(1, 2), torch.ones(2, 3))
    tensor([[3., 3., 3.]])
    """
    if is_direct_faster(left):
        return total.add_(_direct(left, right.t(), None))
    return total.addmm_(left, right)


def is_direct_faster(rows: Tensor) -> bool:
    """Say whether oneDNN multiplies matrices like this one, of float32, faster than torch's own choice."""
    # oneDNN refuses matrices without numbers.
    return rows.device.type == "cpu" and rows.dtype is torch.float32 and rows.numel() > 0 and _direct_pays()


def _takes_bfloat16(rows: Tensor) -> bool:
    return rows.dtype is torch.bfloat16 and rows.device.type == "cpu" and _has_direct()


def _direct(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Call oneDNN by the operation that torch's compiler uses."""
    # Given a part of a larger matrix, oneDNN falls back to plain loops, which take a thousand times as long.
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, "none", [], "")
    return out


@lru_cache(maxsize=1)
def _has_direct() -> bool:
    """Say whether this build of torch has oneDNN and the operation, which is not part of its public interface."""
    left, right = torch.ones(2, 3), torch.ones(4, 3)
    try:
        return torch.equal(_direct(left, right, None), left @ right.t())
    except (AttributeError, RuntimeError, TypeError):  # a build without it, or with another signature
        return False


@lru_cache(maxsize=1)
def _direct_pays() -> bool:
    """Measure once whether oneDNN is faster in float32 for a layer of a small encoder."""
    if not _has_direct():
        return False
    rows, weight = torch.ones(96, 384), torch.ones(1536, 384)
    return speedup(lambda: functional.linear(rows, weight), lambda: _direct(rows, weight, None)) > _GAIN
