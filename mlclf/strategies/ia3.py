"""Strategy ``ia3``: learned factors of keys, values and inner activations, through peft."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import field_validator

from mlclf.exceptions import NotMergeableError
from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options
from mlclf.strategies.ia3_targets import Ia3Targets, find_ia3_targets
from mlclf.strategies.lora_targets import Layers, check_layers, chosen_layers
from mlclf.strategies.rates import RateOptions


class Ia3Options(RateOptions):
    """Options of the strategy ``ia3``.

    Parameters
    ----------
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest. What lies below the lowest
        one stays constant and is computed once.
    attention : tuple of str or None
        Ends of the names of the linear layers whose outputs are scaled; None takes those of keys and values. Where one
        matrix makes queries, keys and values (ModernBERT, GPT-2, Phi-3), all of its outputs are scaled.
    feedforward : tuple of str or None
        Ends of the names of the linear layers whose inputs are scaled; None takes the last one of the feed-forward
        network.
    learning_rate : float or None
        Peak rate of the factors; None takes 1e-2.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> Ia3Options(layers=2).component
    'ia3'
    """

    component: ClassVar[str] = "ia3"

    layers: Layers = "all"
    attention: tuple[str, ...] | None = None
    feedforward: tuple[str, ...] | None = None

    @field_validator("layers", mode="before")
    @classmethod
    def _possible_layers(cls, value: Any) -> Any:
        return check_layers(value)

    @field_validator("attention", "feedforward")
    @classmethod
    def _some_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not (value and all(value)):
            raise ValueError("must hold at least one end of a name, and no empty one")
        return value


class Ia3Strategy(Strategy):
    """(IA)³: the backbone is frozen, and one factor for each key, value and inner activation learns.

    Parameters
    ----------
    options : Ia3Options

    References
    ----------
    Liu et al. (2022), "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    arXiv:2205.05638.

    Examples
    --------
    >>> Ia3Strategy(Ia3Options()).learning_rates.backbone
    0.01
    """

    Options: ClassVar[type[Options]] = Ia3Options
    # Its factors can stand around a LoRA's updates, and peft gives no updates to what has factors: LoRA goes first.
    capabilities = StrategyCapabilities(changes="activations", detachable=True, chains=True)
    typical_use = "few rows, the smallest saved models, any backbone"
    latency = "none once merged"
    learning_rates = LearningRates(backbone=1e-2, head=5e-3)
    options: Ia3Options

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone whose keys, values or feed-forward networks are not found, and layers it does not have."""
        self._targets(backbone)

    def adapt(self, backbone: Backbone) -> None:
        """Freeze the model and inject the factors."""
        from mlclf.strategies.ia3_layers import inject

        inject(backbone.model, self._targets(backbone))

    def constant_layers(self, backbone: Backbone) -> int:
        """Return the number of layers below the lowest adapted one."""
        return min(chosen_layers(backbone.n_layers, self.options.layers, owner="Ia3Options"), default=0)

    def parameter_groups(self, backbone: Backbone, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group without weight decay, which would pull the factors from one to zero."""
        groups = super().parameter_groups(backbone, learning_rate, weight_decay)
        return [{**group, "weight_decay": 0.0} for group in groups]

    def merge(self, backbone: Backbone) -> None:
        """Multiply the factors into the weights and remove what was injected.

        Raises
        ------
        NotMergeableError
            If a factor is not finite; nothing has been changed then.
        """
        from mlclf.strategies.ia3_layers import merge

        for name, tensor in self.state(backbone).items():
            if not torch.isfinite(tensor).all():
                raise NotMergeableError(
                    f"The factors {name!r} hold numbers that are not finite: the model is damaged. Train it again, "
                    "with a lower learning rate if training diverged."
                )
        merge(backbone.model)

    def detach(self, backbone: Backbone) -> None:
        """Remove the factors: the model is again what was loaded, bit for bit."""
        from mlclf.strategies.ia3_layers import detach

        detach(backbone.model)

    def _targets(self, backbone: Backbone) -> Ia3Targets:
        return find_ia3_targets(backbone, self.options.layers, self.options.attention, self.options.feedforward)
