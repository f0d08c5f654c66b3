"""What the options of strategies with low-rank updates have in common."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from mlclf.strategies.lora_targets import Layers, Targets, check_layers, check_targets
from mlclf.strategies.rates import RateOptions


class LowRankOptions(RateOptions):
    """Base of the options of ``lora`` and ``qlora``.

    Parameters
    ----------
    r : int
        Rank of the updates.
    alpha : float or None
        Updates are scaled by ``alpha / r``; None takes ``2 * r``.
    dropout : float
        Dropout of what goes into the updates.
    targets : {"all-linear", "attention", "qv"} or tuple of str
        Which linear layers get an update.
    layers : "all", int or tuple of int
        Layers of the stack whose linear layers get one.
    use_dora : bool
        Learn length and direction of the weights apart.
    use_rslora : bool
        Scale by ``alpha / sqrt(r)``.
    lora_plus_ratio : float or None
        The second matrix of an update learns so many times as fast as the first.
    backbone_dropout : bool
        Whether the frozen backbone keeps its own dropout in training.
    learning_rate : float or None
        Peak rate of the updates.
    head_learning_rate : float or None
        Peak rate of head and pooling.
    """

    r: int = Field(default=16, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Targets = "all-linear"
    layers: Layers = "all"
    use_dora: bool = False
    use_rslora: bool = False
    lora_plus_ratio: float | None = Field(default=None, ge=1)
    backbone_dropout: bool = True

    @field_validator("targets", mode="before")
    @classmethod
    def _known_targets(cls, value: Any) -> Any:
        return check_targets(value)

    @field_validator("layers", mode="before")
    @classmethod
    def _possible_layers(cls, value: Any) -> Any:
        return check_layers(value)


def check_even_rank(init: str, r: int) -> None:
    """Raise ValueError where an initialisation cannot give a rank.

    Parameters
    ----------
    init : str
        Value of the option ``init``.
    r : int
        Value of the option ``r``.
    """
    if init == "orthogonal" and r % 2:
        raise ValueError(f"init='orthogonal' splits the rank into halves and needs an even r, got r={r}")
