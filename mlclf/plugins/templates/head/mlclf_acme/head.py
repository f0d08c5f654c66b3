"""Head ``acme:head``: one logit a label from the mean and the maximum of the token states."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mlclf.interfaces import Backbone, BackboneOutput, HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import make_loss, prior_logits
from mlclf.options import Options


class AcmeHeadOptions(Options):
    """Options of the head ``acme:head``.

    Parameters
    ----------
    dropout : float
        Share of the features that are zeroed in training.
    """

    component: ClassVar[str] = "acme:head"

    dropout: float = Field(default=0.1, ge=0, lt=1)


class AcmeHead(LogitsHead):
    """A linear layer over the mean and the maximum of a row's token states.

    Parameters
    ----------
    options : AcmeHeadOptions
    """

    Options: ClassVar[type[Options]] = AcmeHeadOptions
    capabilities = HeadCapabilities(reads="tokens")
    options: AcmeHeadOptions

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Create the layers: sizes and label counts are known now. What is a parameter or a buffer is saved."""
        self.dropout = nn.Dropout(self.options.dropout)
        self.output = nn.Linear(2 * backbone.hidden_size, labels.n_labels)
        self.loss = make_loss("bce", labels)
        # Training starts at the labels' frequencies instead of learning them first.
        with torch.no_grad():
            self.output.bias.copy_(prior_logits(labels))
            self.output.weight.mul_(0.1)

    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits ``(n_rows, n_labels)``; padding, where ``output.mask`` is False, takes no part."""
        mask = output.mask.unsqueeze(-1)
        tokens = output.tokens.float()
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        highest = tokens.masked_fill(~mask, torch.finfo(tokens.dtype).min).amax(dim=1)
        logits: Tensor = self.output(self.dropout(torch.cat([mean, highest], dim=1)))
        return logits
