"""Injecting low-rank updates into a model, merging them into its weights, and taking them out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.linear_layers import Conv1dAsLinear, is_conv1d, plain_layer
from mlclf.quantized import QuantizedLinear, dequantize
from mlclf.strategies.lora_linear import PLAIN, FastLoraLinear
from mlclf.strategies.lora_peft import LoraConfig, LoraLayer, inject_adapter_in_model
from mlclf.strategies.lora_residual import ResidualLinear
from mlclf.strategies.lora_sharing import share_inputs

_ADAPTER = "default"


def inject(model: nn.Module, names: Sequence[str], config: LoraConfig, *, takes_from_base: bool) -> None:
    """Freeze a model and put low-rank updates beside some of its linear layers.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    names : sequence of str
        Names of linear layers.
    config : peft.LoraConfig
        Everything but the names.
    takes_from_base : bool
        Whether the initialisation takes the start of an update out of the base weight.

    Raises
    ------
    IncompatibleComponentsError
        If peft left a layer out, as it does with those that another of its methods has adapted.
    """
    for name in names:
        if is_conv1d(layer := model.get_submodule(name)):
            model.set_submodule(name, Conv1dAsLinear(layer))
    linears = [model.get_submodule(name) for name in names]
    pristine = [linear.get_parameter("weight").detach().clone() for linear in linears] if takes_from_base else []
    config.target_modules = list(names)
    if all(type(linear) in PLAIN or isinstance(linear, QuantizedLinear) for linear in linears):
        config._register_custom_module({nn.Linear: FastLoraLinear})
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    if left_out := sorted(set(names) - set(adapted(model))):
        raise IncompatibleComponentsError(
            f"Layer {left_out[0]!r} and {len(left_out) - 1} others got no low-rank update, because another strategy "
            "has adapted their weights already. Put 'lora' before it: strategy=['lora', 'ia3']."
        )
    for parameter in model.parameters():
        if parameter.requires_grad:  # what learns is float32 over any base: peft takes the type of the base
            parameter.data = parameter.data.float()
    share_inputs(model, (layer for layer in adapted(model).values() if isinstance(layer, FastLoraLinear)))
    for name, weight in zip(names, pristine, strict=False):
        layer = model.get_submodule(name)
        layer.base_layer = _residual(layer, weight)


def _residual(layer: Any, weight: Tensor) -> ResidualLinear:
    """Return what stands in the place of a base layer that gave up the start of its update."""
    down, up, base = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight, layer.base_layer
    residual = ResidualLinear(
        base.bias,
        weight,
        down,
        up,
        scaling=layer.scaling[_ADAPTER],
        conv1d=isinstance(base, Conv1dAsLinear),
    )
    return residual.train(layer.training)


def adapted(model: nn.Module) -> dict[str, Any]:
    """Return the layers with a low-rank update in a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def residuals(model: nn.Module) -> dict[str, ResidualLinear]:
    """Return by name the base layers that gave up the start of their update."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ResidualLinear)}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add all updates to the weights of their layers and put ordinary linear layers back.

    Weights in few bits are made floats first, also those of layers without updates.
    """
    dequantize(model)
    for layer in adapted(model).values():
        if is_conv1d(layer.base_layer):
            layer.base_layer = Conv1dAsLinear(layer.base_layer)
        layer.merge(safe_merge=True)
    _put_back(model, lambda base: base.weight)


def detach(model: nn.Module) -> None:
    """Put the original linear layers back."""
    _put_back(model, lambda base: base.pristine)


def _put_back(model: nn.Module, weight_of: Callable[[ResidualLinear], Tensor]) -> None:
    """Replace peft's layers by their base layers, which become what they were, with a weight of choice."""
    for name, layer in adapted(model).items():
        base = layer.get_base_layer()
        if isinstance(base, ResidualLinear):
            base = base.plain(weight_of(base))
        elif isinstance(base, Conv1dAsLinear):
            base = plain_layer(base.weight, base.bias, conv1d=True).train(base.training)
        model.set_submodule(name, base)
    if hasattr(model, "peft_config"):
        del model.peft_config
