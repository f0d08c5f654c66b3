"""The low-rank update of frozen linear layers, forward and backward written out.

peft computes the update with five operations of its own, each over all activations, which autograd records one by
one; on a processor these cost about as much as what freezing the weights saves. Here every product is added in place
to what it belongs to, and nothing is computed for frozen weights. Layers that take the same input, such as query, key
and value, share its conversion and the products with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlclf.matrix_products import add_product, affine, product
from mlclf.quantized import QuantizedLinear


class Update(NamedTuple):
    """A frozen layer and the update beside it.

    Parameters
    ----------
    dtype : torch.dtype
        Type of all arithmetic.
    weight : Tensor, shape (out_features, in_features), or QuantizedLinear
        Frozen. Of a quantised layer no floats are kept for the backward pass: they are computed again there.
    bias : Tensor, shape (out_features,), or None
        Frozen.
    down, up : Tensor, shapes (rank, in_features) and (out_features, rank)
        What learns, A and B in the paper.
    scaling : float
        Factor of the update.
    """

    dtype: torch.dtype
    weight: Tensor | QuantizedLinear
    bias: Tensor | None
    down: Tensor
    up: Tensor
    scaling: float


def updated(x: Tensor, updates: Sequence[Update]) -> tuple[Tensor, ...]:
    """Return the outputs of frozen layers and their updates for the same input.

    Parameters
    ----------
    x : Tensor, shape (..., in_features)
    updates : sequence of Update
        All of one type of arithmetic, which is that of the outputs.

    Returns
    -------
    tuple of Tensor, shape (..., out_features)
    """
    factors = [factor for update in updates for factor in (update.down, update.up)]
    outputs: tuple[Tensor, ...] = LowRankUpdate.apply(x, updates, *factors)  # type: ignore[no-untyped-call]
    return outputs


class LowRankUpdate(torch.autograd.Function):
    """``x W' + b + scaling * (x A') B'`` with frozen W and b, for one or more layers of the same input.

    References
    ----------
    Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, updates: Sequence[Update], *factors: Tensor) -> tuple[Tensor, ...]:
        """Return one output a layer, shape (..., out_features).

        Parameters
        ----------
        ctx : Any
            Autograd's context.
        x : Tensor, shape (..., in_features)
        updates : sequence of Update
        *factors : Tensor
            A and B of each update; what autograd gives gradients to.
        """
        dtype = updates[0].dtype
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        lows = [down.to(dtype) for down in factors[::2]]
        low = lows[0] if len(lows) == 1 else torch.cat(lows)
        # With the factor in B, which is small, no product and no gradient of the input has to be scaled.
        highs = [
            torch.mul(up, update.scaling, out=torch.empty_like(up, dtype=dtype))
            for up, update in zip(factors[1::2], updates, strict=True)
        ]
        inner = product(rows, low.t())
        outputs, plain = [], []
        owns = torch.split(inner, [low.shape[0] for low in lows], dim=1)
        for update, high, own in zip(updates, highs, owns, strict=True):
            weight = update.weight
            base = weight.dequantized(dtype) if isinstance(weight, QuantizedLinear) else weight.to(dtype)
            bias = None if update.bias is None else update.bias.to(dtype)
            outputs.append(add_product(affine(rows, base, bias), own, high.t()))
            plain.append(None if isinstance(weight, QuantizedLinear) else base)
        ctx.save_for_backward(rows, inner, low, *highs, *plain)
        ctx.updates, ctx.shape, ctx.dtype = updates, x.shape, x.dtype
        return tuple(out.view(*x.shape[:-1], out.shape[-1]) for out in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input and of every A and B."""
        if torch.is_grad_enabled():
            # As torch's once_differentiable, without the time that its wrapper takes for every layer of every step.
            raise RuntimeError("LowRankUpdate has no second derivative. Use create_graph=False.")
        rows, inner, low, *rest = ctx.saved_tensors
        highs, weights = rest[: len(gradients)], rest[len(gradients) :]
        outers = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        parts = [product(outer, high) for outer, high in zip(outers, highs, strict=True)]
        through = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        of_x = _of_input(ctx, outers, weights, through, low) if ctx.needs_input_grad[0] else None
        ranks = [part.shape[1] for part in parts]
        of_lows, owns = torch.split(product(through.t(), rows), ranks), torch.split(inner, ranks, dim=1)
        of_factors: list[Tensor] = []
        for outer, own, of_low, update in zip(outers, owns, of_lows, ctx.updates, strict=True):
            of_factors += [of_low.to(update.down.dtype), gradient_of_up(product(own.t(), outer).t(), update)]
        return of_x, None, *of_factors


def gradient_of_up(of_high: Tensor, update: Update) -> Tensor:
    """Return the gradient of B, shape (out_features, rank), from that of ``s B``.

    Parameters
    ----------
    of_high : Tensor, shape (out_features, rank)
    update : Update
    """
    # Autograd would copy a gradient that lies on its side once more.
    contiguous = of_high.to(update.up.dtype, memory_format=torch.contiguous_format)
    return contiguous.mul_(update.scaling)


def _of_input(
    ctx: Any, outers: Sequence[Tensor], weights: Sequence[Tensor | None], through: Tensor, low: Tensor
) -> Tensor:
    """Return the gradient of the input: of all layers that took it, in one sum."""
    total: Tensor | None = None
    for outer, weight, update in zip(outers, weights, ctx.updates, strict=True):
        base = update.weight.dequantized(outer.dtype) if weight is None else weight
        total = product(outer, base) if total is None else add_product(total, outer, base)
    assert total is not None
    return add_product(total, through, low).view(ctx.shape).to(ctx.dtype)
