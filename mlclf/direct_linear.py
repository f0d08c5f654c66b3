"""Linear layers of float32 by the faster library, whoever calls them, inside a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mlclf.matrix_products import affine, is_direct_faster, product


class DirectLinear(torch.autograd.Function):
    """``x W' + b``, all three products by :mod:`mlclf.matrix_products`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output, shape (..., out_features)."""
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows if weight.requires_grad else None, weight if x.requires_grad else None)
        ctx.shape = x.shape
        return affine(rows, weight, bias).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of input, weight and bias."""
        if torch.is_grad_enabled():
            raise RuntimeError("DirectLinear has no second derivative. Use create_graph=False.")
        rows, weight = ctx.saved_tensors
        outer = gradient.reshape(-1, gradient.shape[-1])
        of_x = product(outer, weight).view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_weight = product(outer.t(), rows) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, outer.sum(dim=0) if ctx.needs_input_grad[2] else None


class _DirectLinears(TorchFunctionMode):
    """Takes the place of ``torch.nn.functional.linear`` where oneDNN is faster."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what stands for it."""
        if func is functional.linear and not kwargs and _is_plain(*args):
            return _linear(*args)
        return func(*args, **(kwargs or {}))


def _is_plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Say whether these are ordinary matrices of float32 that oneDNN multiplies faster, and nothing traces them."""
    known = type(weight) in (Tensor, nn.Parameter) and weight.dtype is torch.float32
    return known and is_direct_faster(x) and not torch.is_autocast_enabled("cpu")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.is_grad_enabled():
        recorded: Tensor = DirectLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return recorded
    return affine(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], weight.shape[0])


@contextmanager
def direct_linears() -> Iterator[None]:
    """Compute linear layers of float32 by the faster library inside the block.

    Where torch's own choice is as fast, and under the compiler, nothing changes. Not for gradient checkpointing: torch
    leaves the block while it computes layers again, and refuses that they come out another way.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> with direct_linears():
    ...     out = layer(torch.ones(4, 3))
    >>> out.shape
    torch.Size([4, 2])
    """
    if torch.compiler.is_compiling() or not is_direct_faster(torch.ones(1)):
        yield
        return
    with _DirectLinears():
        yield
