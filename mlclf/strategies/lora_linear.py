"""Linear layers with a low-rank update, faster than peft's and with the same result.

peft computes the update with five operations of their own, each over all activations, which autograd records one by
one; on a processor these cost about as much as what freezing the weights saves. Here forward and backward are written
out: every product is added in place to what it belongs to, and nothing is computed for frozen weights.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlclf.linear_layers import Conv1dAsLinear
from mlclf.quantized import QuantizedLinear
from mlclf.strategies.lora_peft import PeftLoraLinear
from mlclf.strategies.lora_residual import ResidualLinear

# Base layers whose weight is a tensor like any other.
PLAIN = (nn.Linear, Conv1dAsLinear, ResidualLinear)


class LowRankUpdate(torch.autograd.Function):
    """``x W' + b + scaling * (x A') B'`` with frozen W and b, in the type of x.

    References
    ----------
    Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | QuantizedLinear,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scaling: float,
    ) -> Tensor:
        """Return the output, shape (..., out_features).

        Parameters
        ----------
        ctx : Any
            Autograd's context.
        x : Tensor, shape (..., in_features)
            Input; its type is that of all arithmetic.
        weight : Tensor, shape (out_features, in_features), or QuantizedLinear
            Frozen. Of a quantised layer no floats are kept for the backward pass: they are computed again there.
        bias : Tensor, shape (out_features,), or None
            Frozen.
        down, up : Tensor, shapes (rank, in_features) and (out_features, rank)
            What learns, A and B in the paper.
        scaling : float
            Factor of the update.
        """
        rows = x.reshape(-1, x.shape[-1])
        quantized = isinstance(weight, QuantizedLinear)
        base = weight.dequantized(x.dtype) if isinstance(weight, QuantizedLinear) else weight.to(x.dtype)
        low, high = down.to(x.dtype), up.to(x.dtype)
        inner = torch.mm(rows, low.t())
        out = functional.linear(rows, base, None if bias is None else bias.to(x.dtype))
        out.addmm_(inner, high.t(), alpha=scaling)
        ctx.save_for_backward(rows, inner, None if quantized else base, low, high)
        ctx.scaling, ctx.shape, ctx.types = scaling, x.shape, (down.dtype, up.dtype)
        ctx.layer = weight if quantized else None
        return out.view(*x.shape[:-1], base.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, Tensor | None, None]:
        """Return the gradients of input, A and B."""
        if torch.is_grad_enabled():
            # As torch's once_differentiable, without the time that its wrapper takes for every layer of every step.
            raise RuntimeError("LowRankUpdate has no second derivative. Use create_graph=False.")
        rows, inner, base, low, high = ctx.saved_tensors
        outer = gradient.reshape(-1, gradient.shape[-1])
        through = torch.mm(outer, high)
        of_x = of_down = of_up = None
        if ctx.needs_input_grad[0]:
            base = ctx.layer.dequantized(outer.dtype) if base is None else base
            of_x = torch.mm(outer, base).addmm_(through, low, alpha=ctx.scaling).view(ctx.shape)
        if ctx.needs_input_grad[3]:
            of_down = torch.mm(through.t(), rows).to(ctx.types[0]).mul_(ctx.scaling)
        if ctx.needs_input_grad[4]:
            of_up = torch.mm(inner.t(), outer).t().to(ctx.types[1]).mul_(ctx.scaling)
        return of_x, None, None, of_down, of_up, None


class FastLoraLinear(PeftLoraLinear):  # type: ignore[misc]  # peft ships no type information
    """peft's LoRA layer with a faster forward and backward pass for plain LoRA.

    DoRA, dropout in training, several adapters at once, merged and switched off adapters, base layers with hooks or
    other types, compilation and tracing take peft's own way. Parameters, merging and saving are peft's in any case.
    """

    # What conversion gave, and what it was made from.
    _kept: tuple[tuple[int, int, torch.dtype], Tensor] | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return base layer and update of the input, shape (..., out_features)."""
        base = self.base_layer
        adapter = None if args or kwargs else self._single_adapter(base)
        dtype = None if adapter is None else self._arithmetic(x, base, adapter)
        if dtype is None:
            out: Tensor = super().forward(x, *args, **kwargs)
            return out
        down, up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        weight = base if isinstance(base, QuantizedLinear) else self._weight_in(dtype, base)
        result: Tensor = LowRankUpdate.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            x.to(dtype), weight, base.bias, down, up, self.scaling[adapter]
        )
        return result

    def train(self, mode: bool = True) -> Self:
        """Set the mode; outside training nothing is kept beside the weights themselves."""
        self._kept = None
        super().train(mode)
        return self

    def _weight_in(self, dtype: torch.dtype, base: nn.Linear) -> Tensor:
        """Return the frozen weight in the type of the arithmetic, converted once and kept while a processor trains.

        It is the same in every step, and converting it took a tenth of one.
        """
        weight: Tensor = base.weight
        if weight.dtype == dtype or not self.training or weight.device.type != "cpu":
            return weight
        # A weight that is written to counts its versions; one that is replaced is another tensor.
        key = (id(weight), weight._version, dtype)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, weight.detach().to(dtype))
        return self._kept[1]

    def _single_adapter(self, base: nn.Module) -> str | None:
        """Return the one active adapter if it is plain LoRA over a plain frozen layer."""
        active = self.active_adapters
        # The compiler follows peft's separate operations and joins them by itself.
        if torch.compiler.is_compiling() or self.disable_adapters or self.merged or len(active) != 1:
            return None
        name: str = active[0]
        plain = (
            self.lora_bias.get(name) is False
            and name not in self.lora_variant
            and _is_frozen(base)
            and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks)
            and not (self.lora_dropout[name].training and isinstance(self.lora_dropout[name], nn.Dropout))
        )
        return name if plain else None

    def _arithmetic(self, x: Tensor, base: nn.Linear, adapter: str) -> torch.dtype | None:
        """Return the type to compute in, None where peft must convert."""
        if torch.is_autocast_enabled(x.device.type):
            return torch.get_autocast_dtype(x.device.type)
        dtype = base.dtype if isinstance(base, QuantizedLinear) else base.weight.dtype
        same = x.dtype == dtype == self.lora_A[adapter].weight.dtype
        return x.dtype if same else None

    def _cast_input_dtype(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Leave the input alone under autocast, which would undo the conversion at once: two copies for nothing."""
        if torch.is_autocast_enabled(x.device.type):
            return x
        converted: Tensor = super()._cast_input_dtype(x, dtype)
        return converted


def updated_rows(layer: PeftLoraLinear, states: Tensor, output: Tensor) -> Tensor:
    """Return the output of peft's layer for some rows, given that of its base layer; for prediction.

    Parameters
    ----------
    layer : peft.tuners.lora.layer.Linear
        With one active adapter.
    states : Tensor, shape (n_rows, ..., in_features)
        Its input.
    output : Tensor, shape (n_rows, ..., out_features)
        Output of its base layer.
    """
    (adapter,) = layer.active_adapters
    if adapter in layer.lora_variant:
        varied: Tensor = layer.lora_variant[adapter].forward(layer, active_adapter=adapter, x=states, result=output)
        return varied
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    inner = torch.mm(states.reshape(-1, states.shape[-1]), down.t())
    out = torch.addmm(output.reshape(-1, output.shape[-1]), inner, up.t(), alpha=layer.scaling[adapter])
    return out.view(output.shape)


def _is_frozen(base: nn.Module) -> bool:
    """Tell whether a base layer is of a kind that is known here and does not learn."""
    known = type(base) in PLAIN or isinstance(base, QuantizedLinear)
    return known and not any(parameter.requires_grad for parameter in base.parameters(recurse=False))
