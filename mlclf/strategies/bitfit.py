"""Strategy ``bitfit``: the biases of the backbone learn."""

from __future__ import annotations

from typing import ClassVar

from mlclf.exceptions import UnsuitableComponentError
from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options
from mlclf.strategies.rates import RateOptions


class BitfitOptions(RateOptions):
    """Options of the strategy ``bitfit``.

    Parameters
    ----------
    learning_rate : float or None
        Peak rate of the biases; None takes 2e-3.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> BitfitOptions(learning_rate=1e-3).component
    'bitfit'
    """

    component: ClassVar[str] = "bitfit"


class BitfitStrategy(Strategy):
    """Bias-only fine-tuning: the biases of linear layers and norms learn, and nothing else.

    Parameters
    ----------
    options : BitfitOptions

    References
    ----------
    Ben Zaken et al. (2022), "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
    Language-models", arXiv:2106.10199.

    Examples
    --------
    >>> BitfitStrategy(BitfitOptions()).learning_rates.backbone
    0.002
    """

    Options: ClassVar[type[Options]] = BitfitOptions
    capabilities = StrategyCapabilities(chains=True)
    typical_use = "few rows, an encoder with biases, very small saved models"
    learning_rates = LearningRates(backbone=2e-3, head=5e-3)

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone without biases."""
        if not _biases(backbone):
            raise UnsuitableComponentError(
                f"Strategy 'bitfit' trains biases, and backbone {backbone.options.component!r} with this model has "
                "none, as is usual for ModernBERT, Llama, Qwen3, Mistral, Gemma and Phi-3."
            )

    def adapt(self, backbone: Backbone) -> None:
        """Let the biases learn that take part in the forward pass."""
        self.freeze(backbone)
        biases = _biases(backbone)
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = name in biases


def _biases(backbone: Backbone) -> set[str]:
    """Return the names of the biases that take part in the forward pass."""
    names = {name for name, p in backbone.model.named_parameters() if p.ndim == 1 and name.endswith("bias")}
    return names - backbone.unused_parameters()
