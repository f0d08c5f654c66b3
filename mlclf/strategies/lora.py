"""Strategy ``lora``: low-rank updates of linear layers, through peft."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor, nn

from mlclf.exceptions import IncompatibleComponentsError, NotMergeableError
from mlclf.interfaces import Backbone, Batch, LearningRates, RowUpdate, Strategy, StrategyCapabilities
from mlclf.linear_layers import features
from mlclf.options import Options
from mlclf.strategies.lora_options import LowRankOptions, check_even_rank
from mlclf.strategies.lora_start import LoraStart
from mlclf.strategies.lora_targets import chosen_layers, find_targets
from mlclf.strategies.modes import train_only

# Initialisations that take their start out of the base weight, and those that cannot give every rank.
_TAKES_FROM_BASE = ("pissa", "olora")
_LIMITED_RANK = (*_TAKES_FROM_BASE, "eva")


class LoraOptions(LowRankOptions):
    """Options of the strategy ``lora``.

    Parameters
    ----------
    r : int
        Rank of the updates.
    alpha : float or None
        Updates are scaled by ``alpha / r``; None takes ``2 * r``.
    dropout : float
        Dropout of what goes into the updates. Above 0 a step takes longer, as it does with ``use_dora``.
    targets : {"all-linear", "attention", "qv"} or tuple of str
        Which linear layers get an update: all in the stack, those of attention, those of queries and values (with a
        fused matrix, all of it), or those whose names end so, such as ``("query", "output.dense")``. All of them serve
        rare labels best.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest. What lies below the lowest
        one stays constant and is computed once.
    use_dora : bool
        Learn length and direction of the weights apart (DoRA).
    use_rslora : bool
        Scale by ``alpha / sqrt(r)`` (rsLoRA), for large ranks; take half of the learning rate or less.
    lora_plus_ratio : float or None
        The second matrix of an update, which starts at zero, learns so many times as fast as the first (LoRA+); the
        paper proposes 16. None gives both one rate.
    init : {"default", "gaussian", "orthogonal", "pissa", "olora", "eva"}
        How the updates start: at zero effect ("default", "gaussian", "orthogonal"; "eva" looks in the directions in
        which the training texts differ most); or at the largest singular directions ("pissa") or the first columns of
        a QR decomposition ("olora") of the weights.
    start : LoraStart or None
        Updates of saved models to start from, by :func:`~mlclf.strategies.lora_merging.merge_loras`.
    backbone_dropout : bool
        Whether the frozen backbone keeps its own dropout in training. A step without it is faster, and the
        updates overfit sooner.
    learning_rate : float or None
        Peak rate of the updates; None takes 1e-3. With ``lora_plus_ratio`` it is that of the first matrix, and None
        takes 1e-3 over the root of the ratio.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> LoraOptions(r=8, layers=2).targets
    'all-linear'
    """

    component: ClassVar[str] = "lora"

    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora", "eva"] = "default"
    start: LoraStart | None = None

    @field_validator("start")
    @classmethod
    def _one_start(cls, value: LoraStart | None, info: ValidationInfo) -> LoraStart | None:
        """Refuse a second way to start, which would win over the saved models or be lost."""
        if value is not None and (info.data.get("use_dora") or info.data.get("init") in _LIMITED_RANK):
            raise ValueError("starts plain updates: use it with use_dora=False and init='default'")
        return value

    @field_validator("init")
    @classmethod
    def _even_rank(cls, value: str, info: ValidationInfo) -> str:
        check_even_rank(value, info.data.get("r", 2))
        return value


class LoraStrategy(Strategy):
    """Low-rank adaptation: the backbone is frozen, and linear layers get an update of two thin matrices that learn.

    The learning rate is twenty times that of full fine-tuning. At a rate for full fine-tuning the updates, which start
    at zero, hardly move, and several labels at once are not learned: the usual reason for the belief that LoRA does
    not work here.

    Parameters
    ----------
    options : LoraOptions

    References
    ----------
    Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
    Liu et al. (2024), "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv:2402.09353.
    Kalajdzievski (2023), "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", arXiv:2312.03732.
    Meng et al. (2024), "PiSSA: Principal Singular Values and Singular Vectors Adaptation", arXiv:2404.02948.
    Büyükakyüz (2024), "OLoRA: Orthonormal Low-Rank Adaptation", arXiv:2406.01775.
    Paischer et al. (2024), "One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
    arXiv:2410.07170.
    Hayou et al. (2024), "LoRA+: Efficient Low Rank Adaptation of Large Models", arXiv:2402.12354.

    Examples
    --------
    >>> LoraStrategy(LoraOptions()).learning_rates.backbone
    0.001
    """

    Options: ClassVar[type[Options]] = LoraOptions
    capabilities = StrategyCapabilities(detachable=True, chains=True, shares=True)
    typical_use = "nearly always: quality of full fine-tuning, small saved models"
    latency = "none once merged"
    learning_rates = LearningRates(backbone=1e-3, head=5e-3)
    options: LoraOptions

    def __init__(self, options: LowRankOptions) -> None:
        super().__init__(options)
        if self.options.init in _TAKES_FROM_BASE:
            # The base gives up a part of its weights to the update, so that no two tasks would have the same base.
            self.capabilities = replace(type(self).capabilities, shares=False)
        if self.options.lora_plus_ratio is not None:
            # The rates of the two matrices then lie around the tuned one.
            rates = type(self).learning_rates
            self.learning_rates = replace(rates, backbone=rates.backbone / self.options.lora_plus_ratio**0.5)

    def check(self, backbone: Backbone) -> None:
        """Refuse targets or layers that the backbone does not have, and ranks that an initialisation cannot give."""
        names = find_targets(backbone, self.options.targets, self.options.layers)
        for name in names if self.options.init in _LIMITED_RANK else ():
            size = _largest_rank(backbone.model.get_submodule(name), self.options.init)
            if self.options.r > size:
                raise IncompatibleComponentsError(
                    f"{type(self.options).__name__}(init={self.options.init!r}, r={self.options.r}): layer {name!r} "
                    f"has only {size} singular directions. Use r={size} or less, or init='default'."
                )

    def adapt(self, backbone: Backbone) -> None:
        """Freeze the model and inject the updates."""
        from mlclf.strategies.lora_layers import inject
        from mlclf.strategies.lora_peft import LoraConfig

        config = LoraConfig(
            r=self.options.r,
            lora_alpha=self.options.alpha or 2 * self.options.r,
            lora_dropout=self.options.dropout,
            use_dora=self.options.use_dora,
            use_rslora=self.options.use_rslora,
            init_lora_weights=True if self.options.init in ("default", "eva") else self.options.init,
        )
        names = find_targets(backbone, self.options.targets, self.options.layers)
        inject(backbone.model, names, config, takes_from_base=self.options.init in _TAKES_FROM_BASE)

    def initialise(self, backbone: Backbone, batches: Iterable[Batch]) -> None:
        """Start from training texts, or from the merged updates of saved models, where the options say so."""
        if self.options.init == "eva":
            from mlclf.strategies.lora_eva import start_from_inputs

            start_from_inputs(backbone, batches, self.options.r)
        elif isinstance(self.options, LoraOptions) and self.options.start is not None:
            from mlclf.strategies.lora_merging import start_from_sources

            start_from_sources(backbone, self.options.start)

    def parameter_groups(self, backbone: Backbone, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups of all strategies, and with LoRA+ a group for the second matrices with their own rate."""
        groups = super().parameter_groups(backbone, learning_rate, weight_decay)
        if self.options.lora_plus_ratio is None:
            return groups
        up = {id(p) for name, p in backbone.model.named_parameters() if ".lora_B." in name}
        return [
            {**group, "params": chosen, "lr": rate}
            for group in groups
            for is_up, rate in ((False, learning_rate), (True, learning_rate * self.options.lora_plus_ratio))
            if (chosen := [p for p in group["params"] if (id(p) in up) is is_up])
        ]

    def constant_layers(self, backbone: Backbone) -> int:
        """Return the number of layers below the lowest adapted one."""
        return min(chosen_layers(backbone.n_layers, self.options.layers), default=0)

    def set_train_mode(self, backbone: Backbone) -> None:
        """Turn dropout on in the updates, and in the layers above the constant ones unless it is not wanted."""
        from mlclf.strategies.lora_layers import adapted

        parts: list[nn.Module] = list(adapted(backbone.model).values())
        if self.options.backbone_dropout:
            constant = self.constant_layers(backbone)
            parts = backbone.layers()[constant:] if constant else [backbone.model]
        train_only(backbone.model, parts)

    def state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return the updates by name, and where the base gave up their start, also that start."""
        from mlclf.strategies.lora_layers import residuals

        state = super().state(backbone)
        for name, base in residuals(backbone.model).items():
            state |= {f"{name}.initial_down": base.initial_down, f"{name}.initial_up": base.initial_up}
        return state

    def load_state(self, backbone: Backbone, state: dict[str, Tensor]) -> None:
        """Put saved updates into an adapted backbone."""
        from mlclf.strategies.lora_layers import residuals

        super().load_state(backbone, state)
        for base in residuals(backbone.model).values():
            base.subtract()

    def merge(self, backbone: Backbone) -> None:
        """Add the updates to the weights and remove what was injected.

        Raises
        ------
        NotMergeableError
            If an update is not finite; nothing has been changed then.
        """
        from mlclf.strategies.lora_layers import merge

        for name, tensor in self.state(backbone).items():
            if not torch.isfinite(tensor).all():
                raise NotMergeableError(
                    f"The update {name!r} holds numbers that are not finite: the model is damaged. Train it "
                    "again, with a lower learning rate if training diverged."
                )
        merge(backbone.model)

    def row_updates(self, backbone: Backbone) -> dict[str, RowUpdate]:
        """Return the updates as functions of a layer's input and plain output."""
        from mlclf.strategies.lora_layers import adapted
        from mlclf.strategies.lora_linear import updated_rows

        if not self.capabilities.shares:
            raise IncompatibleComponentsError(
                f"LoraOptions(init={self.options.init!r}) takes the start of the updates out of the weights, so that "
                "tasks cannot share them. Use init='default', 'gaussian' or 'orthogonal'."
            )
        return {name: partial(updated_rows, layer) for name, layer in adapted(backbone.model).items()}

    def detach(self, backbone: Backbone) -> None:
        """Remove the updates: the model is again what was loaded, bit for bit."""
        from mlclf.strategies.lora_layers import detach

        detach(backbone.model)


def _largest_rank(layer: nn.Module, init: str) -> int:
    """Return up to which rank an initialisation finds directions: of the weight, or of the input."""
    n_in, n_out = features(layer)
    return n_in if init == "eva" else min(n_in, n_out)
