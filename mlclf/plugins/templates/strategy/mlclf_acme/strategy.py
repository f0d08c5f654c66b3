"""Strategy ``acme:strategy``: biases and norms learn."""

from __future__ import annotations

from typing import ClassVar

from mlclf.interfaces import Backbone, LearningRates, Strategy, StrategyCapabilities
from mlclf.options import Options


class AcmeStrategyOptions(Options):
    """Options of the strategy ``acme:strategy``.

    Parameters
    ----------
    biases : bool
        Whether biases learn, beside the weights of norms.
    """

    component: ClassVar[str] = "acme:strategy"

    biases: bool = True


class AcmeStrategy(Strategy):
    """Train the vectors of a backbone, which are biases and the weights of norms, and freeze its matrices.

    Parameters
    ----------
    options : AcmeStrategyOptions
    """

    Options: ClassVar[type[Options]] = AcmeStrategyOptions
    capabilities = StrategyCapabilities(changes="weights")
    # The thing that matters most: too small and nothing is learned, too large and the backbone is lost. Measure them.
    learning_rates = LearningRates(backbone=2e-3, head=5e-3)
    typical_use = "say here when to take it"
    options: AcmeStrategyOptions

    def adapt(self, backbone: Backbone) -> None:
        """Freeze the model, and let the vectors learn that take part in the forward pass."""
        self.freeze(backbone)
        unused = backbone.unused_parameters()
        for name, parameter in backbone.model.named_parameters():
            wanted = self.options.biases or not name.endswith("bias")
            parameter.requires_grad = parameter.ndim == 1 and wanted and name not in unused
