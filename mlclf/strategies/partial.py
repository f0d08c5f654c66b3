"""Strategy ``partial``: the last layers of the backbone learn."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mlclf.exceptions import IncompatibleComponentsError, UnsuitableComponentError
from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options
from mlclf.strategies.modes import train_only
from mlclf.strategies.rates import RateOptions


class PartialOptions(RateOptions):
    """Options of the strategy ``partial``.

    Parameters
    ----------
    last_layers : int
        How many layers learn, counted from the top.
    learning_rate : float or None
        Peak rate of these layers; None takes 2e-4.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> PartialOptions(last_layers=1).last_layers
    1
    """

    component: ClassVar[str] = "partial"

    last_layers: int = Field(default=2, ge=1)


class PartialStrategy(Strategy):
    """Partial fine-tuning: embeddings and lower layers stay constant, without dropout, and are computed once.

    Parameters
    ----------
    options : PartialOptions

    Examples
    --------
    >>> PartialStrategy(PartialOptions()).learning_rates.backbone
    0.0002
    """

    Options: ClassVar[type[Options]] = PartialOptions
    capabilities = StrategyCapabilities(needs_layers=True)
    typical_use = "fast training on text near what the backbone knows"
    learning_rates = LearningRates(backbone=2e-4, head=5e-3)
    options: PartialOptions

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone without a stack of layers, or with fewer layers than shall learn."""
        if backbone.n_layers == 0:
            raise UnsuitableComponentError(
                "Strategy 'partial' trains the last layers of a stack, and this backbone "
                f"({backbone.options.component!r}) has none: its layers share weights (ALBERT) or cannot be told "
                "apart."
            )
        if self.options.last_layers > backbone.n_layers:
            raise IncompatibleComponentsError(
                f"PartialOptions(last_layers={self.options.last_layers}) is more than the {backbone.n_layers} layers "
                f"of this backbone. Use 1 to {backbone.n_layers}, or strategy='full' to train the embeddings too."
            )

    def adapt(self, backbone: Backbone) -> None:
        """Let the last layers learn, and a norm that follows them."""
        self.freeze(backbone)
        lower = {id(parameter) for parameter in backbone.lower_parameters(self.constant_layers(backbone))}
        unused = backbone.unused_parameters()
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = id(parameter) not in lower and name not in unused

    def constant_layers(self, backbone: Backbone) -> int:
        """Return the number of layers below those that learn."""
        return backbone.n_layers - self.options.last_layers

    def set_train_mode(self, backbone: Backbone) -> None:
        """Turn dropout on in the layers that learn; embeddings and lower layers run without."""
        train_only(backbone.model, backbone.layers()[self.constant_layers(backbone) :])
