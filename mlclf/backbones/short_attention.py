"""Attention over short rows, forward and backward written out.

The lengths of sentences are the worst case of torch's operations on a processor: a softmax, its gradient, or adding a
mask goes row by row, and a row of 14 numbers costs nearly as much as one of 100. Here only sums go by row; all else
runs over the scores as one flat array.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlclf.backbones.dropout import kept

# Sums of exponentials outside of this range have lost precision, or all of it: the row is then computed the slow way.
_SMALLEST, _LARGEST = 1e-30, 1e30


class ShortAttention(torch.autograd.Function):
    """``dropout(softmax(scale * Q K' + mask)) V`` for each row and head.

    The gradient of the softmax needs the product of each row of weights with its gradient; it is that of the output
    with its own, as in FlashAttention.

    References
    ----------
    Dao et al. (2022), "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", appendix B.2,
    arXiv:2205.14135.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, rate: float
    ) -> Tensor:
        """Return the output, shape (n_rows, length, n_heads, head_size).

        Parameters
        ----------
        ctx : Any
            Autograd's context.
        query, key, value : Tensor, shape (n_rows, n_heads, length, head_size)
            Of one type, that of the arithmetic. Keys and values have a length of their own, n_keys.
        mask : Tensor, shape (n_rows or 1, n_heads or 1, length or 1, n_keys), or None
            Added to the scores.
        scale : float
            Factor of the scores.
        rate : float
            Of dropout of the weights.
        """
        n_rows, n_heads, length, size = query.shape
        q, k, v = (_folded(states) for states in (query, key, value))
        precise = _softmax(_scores(q, k, mask, n_heads, scale))
        weights = precise.to(q.dtype)
        keep = kept(weights, rate) if rate > 0.0 else None
        dropped = weights if keep is None else weights * keep
        out = torch.bmm(dropped, v)
        ctx.save_for_backward(q, k, v, precise, dropped, keep, out)
        ctx.scale = scale
        return out.view(n_rows, n_heads, length, size).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key and value."""
        if torch.is_grad_enabled():
            raise RuntimeError("ShortAttention has no second derivative. Use create_graph=False.")
        q, k, v, precise, dropped, keep, out = ctx.saved_tensors
        n_rows, _, n_heads, size = gradient.shape
        outer = _folded(gradient.transpose(1, 2))
        of_value = torch.bmm(dropped.transpose(1, 2), outer)
        of_weights = torch.bmm(outer, v.transpose(1, 2))
        if keep is not None:
            of_weights.mul_(keep)
        shared = (outer.to(precise.dtype) * out.to(precise.dtype)).sum(dim=-1, keepdim=True)
        of_scores = (of_weights.to(precise.dtype) - shared).mul_(precise).mul_(ctx.scale).to(q.dtype)
        of_query, of_key = torch.bmm(of_scores, k), torch.bmm(of_scores.transpose(1, 2), q)
        folded = (of_query, of_key, of_value)
        return *(states.view(n_rows, n_heads, -1, size) for states in folded), None, None, None


def _folded(states: Tensor) -> Tensor:
    """Return rows and heads as one dimension, shape (n_rows * n_heads, length, head_size)."""
    return states.reshape(-1, *states.shape[2:])


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, n_heads: int, scale: float) -> Tensor:
    """Return scaled and masked scores, shape (n_rows * n_heads, length, n_keys)."""
    if mask is None:
        return torch.bmm(q * scale, k.transpose(1, 2))
    each = _folded(mask.expand(q.shape[0] // n_heads, n_heads, *mask.shape[2:]))
    return torch.baddbmm(each, q, k.transpose(1, 2), alpha=scale)


def _softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the last dimension, in float32 or what is more precise.

    Without the largest score of each row being taken off first, which would go by row again. Where exponentials are
    too large or too small for that, which the scores of few models are, torch's own softmax is taken.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    powers = scores.exp() if scores.dtype is dtype else scores.to(dtype).exp_()
    sums = powers.sum(dim=-1, keepdim=True)
    least, most = torch.aminmax(sums)
    if float(least) > _SMALLEST and float(most) < _LARGEST:
        return powers.div_(sums)
    return scores.softmax(dim=-1, dtype=dtype)
