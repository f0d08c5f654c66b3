"""A low-rank update whose A stands below the frozen weight, in one matrix: for a layer that narrows its input.

``[W; A] x`` gives the base layer's output and ``A x`` in one product, and its transpose takes the gradients of both
back to ``x``: what would be read and written for its own sake is the wide side, the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mlclf.matrix_products import affine
from mlclf.strategies.lora_update import Update, gradient_of_up


class Below:
    """The matrix ``[W; A]`` of a layer, and its B.

    Parameters
    ----------
    update : Update
        With a plain weight. W is converted here; A and B are written by :meth:`write`.

    Attributes
    ----------
    matrix : Tensor, shape (out_features + rank, in_features)
    high : Tensor, shape (out_features, rank)
        ``s B``.
    bias : Tensor, shape (out_features + rank,), or None
    """

    def __init__(self, update: Update) -> None:
        self.n_out, rank = update.up.shape
        self.matrix = update.down.new_empty(self.n_out + rank, update.down.shape[1], dtype=update.dtype)
        self.high = torch.empty_like(update.up, dtype=update.dtype, requires_grad=False)
        self.low = self.matrix[self.n_out :]
        self.matrix[: self.n_out].copy_(update.weight)  # type: ignore[arg-type]
        bias = update.bias
        self.bias = None if bias is None else functional.pad(bias.detach().to(update.dtype), (0, rank))

    def write(self, update: Update) -> None:
        """Copy A and B of this step."""
        self.low.copy_(update.down)
        torch.mul(update.up, update.scaling, out=self.high)

    def outputs(self, x: Tensor, updates: Sequence[Update]) -> tuple[Tensor, ...]:
        """Return the output of the layer, shape (..., out_features), alone in a tuple."""
        (update,) = updates
        return (BelowUpdate.apply(x, update, self, update.down, update.up),)  # type: ignore[no-untyped-call]


class BelowUpdate(torch.autograd.Function):
    """What :class:`~mlclf.strategies.lora_update.LowRankUpdate` computes for one layer, by :class:`Below`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, update: Update, kept: Below, down: Tensor, up: Tensor) -> Tensor:
        """Return the output, shape (..., out_features)."""
        kept.write(update)
        rows = x.reshape(-1, x.shape[-1]).to(update.dtype)
        joined = affine(rows, kept.matrix, kept.bias)
        inner = joined[:, kept.n_out :].contiguous()
        out = joined[:, : kept.n_out].addmm_(inner, kept.high.t())
        # The factors are saved for torch to notice if they are written to before the backward pass.
        ctx.save_for_backward(rows, inner, down, up)
        ctx.update, ctx.kept, ctx.shape, ctx.dtype = update, kept, x.shape, x.dtype
        # To autograd it is no view of the matrix that holds it.
        return out.view(*x.shape[:-1], kept.n_out).data

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input, A and B."""
        if torch.is_grad_enabled():
            raise RuntimeError("BelowUpdate has no second derivative. Use create_graph=False.")
        kept, update = ctx.kept, ctx.update
        rows, inner, down, _ = ctx.saved_tensors
        given = gradient.reshape(-1, kept.n_out)
        outer = given.new_empty(given.shape[0], kept.matrix.shape[0])
        outer[:, : kept.n_out].copy_(given)
        through = torch.mm(given, kept.high, out=outer[:, kept.n_out :])
        of_x = torch.mm(outer, kept.matrix).view(ctx.shape).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        of_down = torch.mm(through.t(), rows).to(down.dtype)
        return of_x, None, None, of_down, gradient_of_up(inner, given, update)
