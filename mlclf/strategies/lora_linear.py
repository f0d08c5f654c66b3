"""peft's linear layer with a low-rank update, computed faster and with the same result."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from mlclf.linear_layers import Conv1dAsLinear
from mlclf.quantized import QuantizedLinear
from mlclf.strategies.lora_kept import KeptWeights
from mlclf.strategies.lora_peft import PeftLoraLinear
from mlclf.strategies.lora_residual import ResidualLinear
from mlclf.strategies.lora_sharing import SharedInput
from mlclf.strategies.lora_update import Update, updated

# Base layers whose weight is a tensor like any other.
PLAIN = (nn.Linear, Conv1dAsLinear, ResidualLinear)


class FastLoraLinear(PeftLoraLinear):  # type: ignore[misc]  # peft ships no type information
    """peft's LoRA layer with a faster forward and backward pass for plain LoRA.

    DoRA, dropout in training, several adapters at once, merged and switched off adapters, base layers with hooks or
    other types, compilation and tracing take peft's own way. Parameters, merging and saving are peft's in any case.
    """

    # Weights in the type of the arithmetic, while training.
    kept: KeptWeights
    # With the other layers of the same block, where there are any.
    shared_input: SharedInput | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kept = KeptWeights()
        super().__init__(*args, **kwargs)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return base layer and update of the input, shape (..., out_features)."""
        plain = not (args or kwargs)
        if plain and self.shared_input is not None and (ready := self.shared_input.taken(self, x)) is not None:
            return ready
        update = self.update_for(x) if plain else None
        if update is None:
            out: Tensor = super().forward(x, *args, **kwargs)
            return out
        if not (self.training and torch.is_grad_enabled()):
            return updated(x, [update])[0]
        if self.shared_input is None:
            return self.kept.outputs(x, [update])[0]
        return self.shared_input.output_of(self, x, update)

    def update_for(self, x: Tensor) -> Update | None:
        """Return what to compute for an input, None where it is peft's to compute."""
        base = self.base_layer
        adapter = self._single_adapter(base)
        dtype = None if adapter is None else self._arithmetic(x, base, adapter)
        if dtype is None:
            return None
        weight = base if isinstance(base, QuantizedLinear) else base.weight
        down, up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return Update(dtype, weight, base.bias, down, up, self.scaling[adapter])

    def train(self, mode: bool = True) -> Self:
        """Set the mode; outside training nothing is kept beside the weights themselves."""
        self.kept.clear()
        if self.shared_input is not None:
            self.shared_input.clear()
        super().train(mode)
        return self

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
    # Asked for every layer in every pass, and ``parameters()`` takes longer than all else that is asked.
    return known and not any(one is not None and one.requires_grad for one in base._parameters.values())
