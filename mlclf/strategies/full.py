"""Strategy ``full``: every weight of the backbone learns."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone, LearningRates, Strategy
from mlclf.options import Options
from mlclf.strategies.rates import RateOptions


class FullOptions(RateOptions):
    """Options of the strategy ``full``.

    Parameters
    ----------
    layer_decay : float or None
        Rate of a layer as a share of the rate of the layer above it; the embeddings come lowest. None trains all
        layers at one rate. 0.8 to 0.95 keep more of what the lower layers learned in pretraining.
    learning_rate : float or None
        Peak rate of the backbone's upper end; None takes 5e-5.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> FullOptions(layer_decay=0.9).layer_decay
    0.9
    """

    component: ClassVar[str] = "full"

    layer_decay: float | None = Field(default=None, gt=0, le=1)


class FullStrategy(Strategy):
    """Full fine-tuning, with layer-wise learning rates on request.

    Weights that take no part in the forward pass stay frozen. Embedding tables have no weight decay: it would pull
    the rows of all tokens towards zero, also of those that the training texts never show.

    Parameters
    ----------
    options : FullOptions

    References
    ----------
    Howard and Ruder (2018), "Universal Language Model Fine-tuning for Text Classification", arXiv:1801.06146,
    section 3.2 (discriminative fine-tuning).

    Examples
    --------
    >>> FullStrategy(FullOptions()).learning_rates.backbone
    5e-05
    """

    Options: ClassVar[type[Options]] = FullOptions
    typical_use = "many rows, and one model to keep"
    learning_rates = LearningRates(backbone=5e-5, head=5e-3)
    options: FullOptions

    def check(self, backbone: Backbone) -> None:
        """Refuse layer-wise rates for a backbone without a stack of layers."""
        if self.options.layer_decay is not None and backbone.n_layers == 0:
            raise IncompatibleComponentsError(
                f"FullOptions(layer_decay={self.options.layer_decay}) needs a stack of layers, and this backbone "
                f"({backbone.options.component!r}) has none: its layers share weights (ALBERT) or cannot be told "
                "apart. Use layer_decay=None."
            )

    def adapt(self, backbone: Backbone) -> None:
        """Let every weight learn that takes part in the forward pass."""
        unused = backbone.unused_parameters()
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = name not in unused

    def parameter_groups(self, backbone: Backbone, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group for each pair of learning rate and weight decay."""
        tables = {id(module.weight) for module in backbone.model.modules() if isinstance(module, nn.Embedding)}
        depths = {} if self.options.layer_decay is None else _depths(backbone)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in backbone.model.parameters():
            if not parameter.requires_grad:
                continue
            decays = parameter.ndim >= 2 and id(parameter) not in tables
            rate = learning_rate * (self.options.layer_decay or 1.0) ** depths.get(id(parameter), 0)
            groups.setdefault((rate, weight_decay if decays else 0.0), []).append(parameter)
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()
        ]


def _depths(backbone: Backbone) -> dict[int, int]:
    """Return by parameter id how many layers stand above what uses it first; what follows the stack is at 0."""
    depths: dict[int, int] = {}
    for n_lower in range(backbone.n_layers + 1):
        # Embeddings (no lower layer) stand one step below the first layer.
        depth = backbone.n_layers - n_lower
        for parameter in backbone.lower_parameters(n_lower):
            depths.setdefault(id(parameter), depth)
    return depths
