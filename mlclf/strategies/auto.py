"""Strategy ``auto``: stands for a strategy that ``fit`` chooses."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options

Deployment = Literal["any", "onnx", "many-models"]


class AutoOptions(Options):
    """Options of the strategy ``auto``.

    Parameters
    ----------
    deployment : {"any", "onnx", "many-models"}
        What the model is for. ``"onnx"`` leaves out strategies whose models cannot be exported, ``"many-models"``
        those that change the backbone's own weights, so that many saved models share one backbone.
    memory : float or None
        GiB of memory to choose by; None takes that of the device: the GPU's, or the machine's.

    Examples
    --------
    >>> AutoOptions(deployment="onnx").memory is None
    True
    """

    component: ClassVar[str] = "auto"

    deployment: Deployment = "any"
    memory: float | None = Field(default=None, gt=0)


class AutoStrategy(Strategy):
    """A strategy chosen by number of rows, size of the backbone, memory and deployment.

    ``fit`` replaces it by the chosen one before anything is loaded, and a saved model holds that one. The rules stand
    in :mod:`mlclf.choosing`.

    Parameters
    ----------
    options : AutoOptions

    Examples
    --------
    >>> AutoStrategy(AutoOptions()).options.component
    'auto'
    """

    Options: ClassVar[type[Options]] = AutoOptions
    capabilities = StrategyCapabilities(changes="nothing")
    typical_use = "to begin with, without reading about strategies"
    learning_rates = LearningRates(backbone=1e-3, head=5e-3)
    options: AutoOptions

    def adapt(self, backbone: Backbone) -> None:
        """Refuse: there is nothing to adapt before a strategy is chosen."""
        raise IncompatibleComponentsError(
            "Strategy 'auto' is replaced by another one in fit, by the rows that it is given. "
            "Name a strategy here, such as 'lora'."
        )
