"""Injecting learned factors into a model, merging them into its weights, and taking them out again."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from mlclf.exceptions import NotMergeableError
from mlclf.linear_layers import is_conv1d
from mlclf.strategies.ia3_targets import Ia3Targets
from mlclf.strategies.lora_peft import BaseTunerLayer, IA3Config, IA3Layer, inject_adapter_in_model


def inject(model: nn.Module, targets: Ia3Targets) -> None:
    """Freeze a model and put factors beside some of its linear layers.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    targets : Ia3Targets
        Names of linear layers.
    """
    config = IA3Config(
        target_modules=[*targets.attention, *targets.feedforward], feedforward_modules=list(targets.feedforward)
    )
    # peft keeps its configuration on the model, and takes that of a LoRA for another adapter of the same kind.
    earlier = vars(model).pop("peft_config", None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # peft corrects it layer by layer
        inject_adapter_in_model(config, model)
    del model.peft_config
    if earlier is not None:
        model.peft_config = earlier
    model.requires_grad_(False)  # peft lets a LoRA learn too that it finds in the model
    for layer in scaled_layers(model).values():
        layer.ia3_l.requires_grad_(True)


def scaled_layers(model: nn.Module) -> dict[str, Any]:
    """Return peft's layers with factors in a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, IA3Layer)}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Multiply all factors into the weights of their layers and put the linear layers back."""
    layers = scaled_layers(model)
    for name, layer in layers.items():
        if isinstance(layer.base_layer, BaseTunerLayer):
            raise NotMergeableError(
                f"The factors of {name!r} scale the output of another update, which must be merged first."
            )
    for layer in layers.values():
        layer.fan_in_fan_out = is_conv1d(layer.base_layer)  # a LoRA gives it back when it is merged
        layer.merge(safe_merge=True)
    detach(model)


def detach(model: nn.Module) -> None:
    """Put the linear layers back."""
    for name, layer in scaled_layers(model).items():
        model.set_submodule(name, layer.base_layer)
