"""A frozen weight in the layouts in which oneDNN multiplies with it.

Given an ordinary matrix, oneDNN rearranges it in every product, with two threads each for itself. A weight that does
not change is rearranged once, for the forward and for the backward pass.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


class PackedWeight:
    """A weight of bfloat16 on a processor, for products that autograd does not record.

    Parameters
    ----------
    weight : Tensor of bfloat16, shape (out_features, in_features)
        Copied; in two layouts after the first backward pass.

    Examples
    --------
    >>> if can_pack():
    ...     weight = PackedWeight(torch.ones(3, 2, dtype=torch.bfloat16))
    ...     out = weight.affine(torch.ones(1, 2, dtype=torch.bfloat16), None)
    """

    def __init__(self, weight: Tensor) -> None:
        self._plain: Tensor | None = weight
        self._forward = _packed(weight)
        self._backward: Tensor | None = None

    def affine(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``rows @ weight.T + bias``, shape (n_rows, out_features).

        Parameters
        ----------
        rows : Tensor of bfloat16, shape (n_rows, in_features)
        bias : Tensor of bfloat16, shape (out_features,), or None
        """
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, self._forward, bias, "none", [], "")
        return out

    def back(self, gradient: Tensor) -> Tensor:
        """Return ``gradient @ weight``, shape (n_rows, in_features).

        Parameters
        ----------
        gradient : Tensor of bfloat16, shape (n_rows, out_features)
        """
        if self._plain is not None:
            self._backward, self._plain = _packed(self._plain.t().contiguous()), None
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(gradient, self._backward, None, "none", [], "")
        return out


@lru_cache(maxsize=1)
def can_pack() -> bool:
    """Say whether this build of torch has what packing takes, which is not part of its public interface."""
    weight, rows = torch.eye(4, dtype=torch.bfloat16), torch.ones(2, 4, dtype=torch.bfloat16)
    try:
        packed = PackedWeight(weight)
        return torch.equal(packed.affine(rows, weight[0]), rows + weight[0]) and torch.equal(packed.back(rows), rows)
    except (AttributeError, RuntimeError, TypeError):  # a build without it, or with another signature
        return False


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return packed
