"""Low-rank updates whose B stands beside the frozen weights, in one matrix: for layers that widen their input.

A product with a matrix of 16 columns takes as long as reading the activations, which is several times what its
arithmetic would. Here ``W x + s B (A x)`` is the one product ``[W | s B] [x; A x]``, and its transpose gives the
gradients of ``x`` and of ``A x`` together, so that two of the six narrow products of a layer become a few more columns
of wide ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from mlclf.matrix_products import affine
from mlclf.strategies.lora_update import Update, gradient_of_up


class Beside:
    """The matrix ``[W | s B]`` of layers that take the same input, one below the other, and their A.

    Parameters
    ----------
    updates : sequence of Update
        With plain weights. W is converted here; A and B are written by :meth:`write`.

    Attributes
    ----------
    matrix : Tensor, shape (sum of out_features, in_features + sum of ranks)
        Each layer has columns of its own for its B; the others' are zero in its rows.
    low : Tensor, shape (sum of ranks, in_features)
    bias : Tensor, shape (sum of out_features,), or None
    """

    def __init__(self, updates: Sequence[Update]) -> None:
        first = updates[0]
        self.outs = [update.up.shape[0] for update in updates]
        self.ranks = [update.down.shape[0] for update in updates]
        self.n_in = first.down.shape[1]
        self.low = first.down.new_empty(sum(self.ranks), self.n_in, dtype=first.dtype)
        self.matrix = first.down.new_zeros(sum(self.outs), self.n_in + sum(self.ranks), dtype=first.dtype)
        self.blocks, self.lows = torch.split(self.matrix, self.outs), torch.split(self.low, self.ranks)
        ends = list(accumulate(self.ranks, initial=self.n_in))
        self.highs = [block[:, ends[i] : ends[i + 1]] for i, block in enumerate(self.blocks)]
        self.bias = _joined_bias(updates, first.dtype)
        for block, update in zip(self.blocks, updates, strict=True):
            block[:, : self.n_in].copy_(update.weight)  # type: ignore[arg-type]

    def write(self, updates: Sequence[Update]) -> None:
        """Copy A and B of this step."""
        for update, low, high in zip(updates, self.lows, self.highs, strict=True):
            low.copy_(update.down)
            torch.mul(update.up, update.scaling, out=high)

    def outputs(self, x: Tensor, updates: Sequence[Update]) -> tuple[Tensor, ...]:
        """Return one output a layer, shape (..., out_features)."""
        factors = [factor for update in updates for factor in (update.down, update.up)]
        outputs: tuple[Tensor, ...] = BesideUpdate.apply(x, updates, self, *factors)  # type: ignore[no-untyped-call]
        return outputs


def _joined_bias(updates: Sequence[Update], dtype: torch.dtype) -> Tensor | None:
    if all(update.bias is None for update in updates):
        return None
    parts = [update.up.new_zeros(update.up.shape[0]) if update.bias is None else update.bias for update in updates]
    return torch.cat([part.detach().to(dtype) for part in parts])


class BesideUpdate(torch.autograd.Function):
    """What :class:`~mlclf.strategies.lora_update.LowRankUpdate` computes, by :class:`Beside`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, updates: Sequence[Update], kept: Beside, *factors: Tensor) -> tuple[Tensor, ...]:
        """Return one output a layer, shape (..., out_features)."""
        kept.write(updates)
        given = x.reshape(-1, kept.n_in)
        rows = kept.matrix.new_empty(given.shape[0], kept.matrix.shape[1])
        own, inner = rows[:, : kept.n_in], rows[:, kept.n_in :]
        torch.mm(own.copy_(given), kept.low.t(), out=inner)
        joined = affine(rows, kept.matrix, kept.bias)
        # The factors are saved for torch to notice if they are written to before the backward pass.
        ctx.save_for_backward(rows, *factors)
        ctx.updates, ctx.kept, ctx.shape, ctx.dtype = updates, kept, x.shape, x.dtype
        # To autograd they are no views of one tensor: it would refuse to change one of them in place.
        return tuple(out.view(*x.shape[:-1], out.shape[1]).data for out in torch.split(joined, kept.outs, dim=1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input and of every A and B."""
        if torch.is_grad_enabled():
            raise RuntimeError("BesideUpdate has no second derivative. Use create_graph=False.")
        kept, rows = ctx.kept, ctx.saved_tensors[0]
        own, inner = rows[:, : kept.n_in], rows[:, kept.n_in :]
        outers = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        if ctx.needs_input_grad[0]:
            of_x, through = _of_input(outers, kept)
            of_x = of_x.view(ctx.shape).to(ctx.dtype)
        else:
            of_x = None
            through = torch.cat([torch.mm(outer, high) for outer, high in zip(outers, kept.highs, strict=True)], dim=1)
        of_low = torch.mm(through.t(), own).to(ctx.updates[0].down.dtype)
        of_lows, inners = torch.split(of_low, kept.ranks), torch.split(inner, kept.ranks, dim=1)
        of_factors: list[Tensor] = []
        for update, outer, of_down, part in zip(ctx.updates, outers, of_lows, inners, strict=True):
            of_factors += [of_down, gradient_of_up(part, outer, update)]
        return of_x, None, None, *of_factors


def _of_input(outers: Sequence[Tensor], kept: Beside) -> tuple[Tensor, Tensor]:
    """Return the gradients of the input and of its products with A, of all layers in one sum."""
    total = torch.mm(outers[0], kept.blocks[0])
    for outer, block in zip(outers[1:], kept.blocks[1:], strict=True):
        total.addmm_(outer, block)
    through = total[:, kept.n_in :]
    return total[:, : kept.n_in].addmm_(through, kept.low), through
