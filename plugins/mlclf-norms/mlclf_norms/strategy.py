"""Strategy ``norms:ln-tuning``: the normalisation layers of the backbone learn."""

from __future__ import annotations

from torch import nn

from mlclf.exceptions import UnsuitableComponentError
from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options


class NormOptions(Options):
    """Options of the strategy ``norms:ln-tuning``: none.

    Examples
    --------
    >>> NormOptions().component
    'norms:ln-tuning'
    """

    component = "norms:ln-tuning"


class NormStrategy(Strategy):
    """Gains and biases of all normalisation layers learn, and nothing else.

    Parameters
    ----------
    options : NormOptions

    References
    ----------
    Qi et al. (2022), "Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models",
    arXiv:2211.08682.

    Examples
    --------
    >>> NormStrategy(NormOptions()).learning_rates.backbone
    0.002
    """

    Options = NormOptions
    capabilities = StrategyCapabilities(chains=True)
    typical_use = "few rows, very small saved models"
    learning_rates = LearningRates(backbone=2e-3, head=5e-3)

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone without normalisation layers."""
        if not _norms(backbone):
            raise UnsuitableComponentError(
                f"Strategy 'norms:ln-tuning' trains normalisation layers, and backbone {backbone.options.component!r} "
                "has none."
            )

    def adapt(self, backbone: Backbone) -> None:
        """Let the normalisation layers learn."""
        self.freeze(backbone)
        for norm in _norms(backbone):
            norm.requires_grad_(True)


def _norms(backbone: Backbone) -> list[nn.Module]:
    """Return the normalisation layers with weights; transformers writes classes of its own, such as LlamaRMSNorm."""
    modules = backbone.model.modules()
    return [module for module in modules if "Norm" in type(module).__name__ and any(True for _ in module.parameters())]
