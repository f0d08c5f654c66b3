"""Low-rank updates beside packed frozen weights: all layers that take the same input as one wide layer.

A product with a matrix of 16 rows or columns takes as long as reading the activations, and starting it as long as some
of them. Layers of one input, as query, key and value, therefore stand below each other in one matrix, and their B in
the blocks of another, so that each narrow product is computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from mlclf.packed_weight import PackedWeight
from mlclf.strategies.lora_update import Update, gradient_of_up


class PackedLayers:
    """The frozen part of layers that take the same input.

    Parameters
    ----------
    updates : sequence of Update
        With plain weights, whose type is not that of the arithmetic, bfloat16.
    """

    def __init__(self, updates: Sequence[Update]) -> None:
        dtype = updates[0].dtype
        self.sizes = [update.up.shape[0] for update in updates]
        self.ranks = [update.up.shape[1] for update in updates]
        self.ends = list(accumulate(self.ranks))
        weights = [cast(Tensor, update.weight).detach() for update in updates]
        self.weight = PackedWeight(torch.cat([weight.to(dtype) for weight in weights]))
        self.bias = _joined_bias(updates)

    def outputs(self, x: Tensor, updates: Sequence[Update]) -> tuple[Tensor, ...]:
        """Return one output a layer, shape (..., out_features)."""
        factors = [factor for update in updates for factor in (update.down, update.up)]
        outputs: tuple[Tensor, ...] = PackedUpdate.apply(x, updates, self, *factors)  # type: ignore[no-untyped-call]
        return outputs

    def high(self, updates: Sequence[Update], factors: Sequence[Tensor]) -> Tensor:
        """Return ``s B`` of each layer in its own rows and columns, shape (sum of out_features, sum of ranks)."""
        make = torch.empty if len(updates) == 1 else torch.zeros
        joined = make(sum(self.sizes), sum(self.ranks), dtype=updates[0].dtype)
        for block, factor, update in zip(self.blocks(joined), factors, updates, strict=True):
            torch.mul(factor, update.scaling, out=block)
        return joined

    def blocks(self, joined: Tensor) -> Sequence[Tensor]:
        """Return each layer's part of a matrix of all outputs and ranks."""
        if len(self.sizes) == 1:
            return (joined,)
        rows = torch.split(joined, self.sizes)
        return [row.narrow(1, end - rank, rank) for row, end, rank in zip(rows, self.ends, self.ranks, strict=True)]


def _joined_bias(updates: Sequence[Update]) -> Tensor | None:
    if all(update.bias is None for update in updates):
        return None
    parts = [update.up.new_zeros(update.up.shape[0]) if update.bias is None else update.bias for update in updates]
    return torch.cat([part.detach().to(updates[0].dtype) for part in parts])


class PackedUpdate(torch.autograd.Function):
    """What :class:`~mlclf.strategies.lora_update.LowRankUpdate` computes, by :class:`PackedLayers`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, updates: Sequence[Update], kept: PackedLayers, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        """Return one output a layer, shape (..., out_features)."""
        dtype = updates[0].dtype
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        low = _joined([down.to(dtype) for down in factors[::2]])
        high = kept.high(updates, factors[1::2])
        inner = torch.mm(rows, low.t())
        joined = kept.weight.affine(rows, kept.bias).addmm_(inner, high.t())
        ctx.save_for_backward(rows, inner, low, high)
        ctx.updates, ctx.kept, ctx.shape, ctx.dtype = updates, kept, x.shape, x.dtype
        return torch.split(joined.view(*x.shape[:-1], joined.shape[1]), kept.sizes, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input and of every A and B."""
        if torch.is_grad_enabled():
            raise RuntimeError("PackedUpdate has no second derivative. Use create_graph=False.")
        kept: PackedLayers = ctx.kept
        rows, inner, low, high = ctx.saved_tensors
        outer = _side_by_side(gradients, kept.sizes)
        through = torch.mm(outer, high)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = kept.weight.back(outer).addmm_(through, low).view(ctx.shape).to(ctx.dtype)
        of_lows = torch.split(torch.mm(through.t(), rows).to(ctx.updates[0].down.dtype), kept.ranks)
        of_highs = kept.blocks(torch.mm(inner.t(), outer).t())
        of_factors: list[Tensor] = []
        for update, of_low, of_high in zip(ctx.updates, of_lows, of_highs, strict=True):
            of_factors += [of_low, gradient_of_up(of_high, update)]
        return of_x, None, None, *of_factors


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _side_by_side(gradients: Sequence[Tensor], sizes: list[int]) -> Tensor:
    """Return the gradients of all outputs as one matrix, shape (n_rows, sum of out_features)."""
    first = gradients[0]
    if len(gradients) == 1:
        return first.reshape(-1, sizes[0])
    joined = first.new_empty(*first.shape[:-1], sum(sizes))
    # Gradients of attention lie transposed: written to their place at once they are not copied twice.
    for part, gradient in zip(torch.split(joined, sizes, dim=-1), gradients, strict=True):
        part.copy_(gradient)
    return joined.view(-1, joined.shape[-1])
