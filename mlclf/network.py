"""MultiLabelNetwork: backbone and head as one module, the thing that is trained, saved and exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlclf.interfaces import Backbone, Batch, Head


class MultiLabelNetwork(nn.Module):
    """A backbone and a head, and nothing else.

    Parameters
    ----------
    backbone : Backbone
        Loaded, and adapted by a strategy where it is to be trained.
    head : Head
        Bound to the backbone and the labels.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of each sample, shape (n_samples,)."""
        return self.head.losses(self.backbone, batch)

    @torch.inference_mode()
    def probabilities(self, batch: Batch) -> Tensor:
        """Return marginal probabilities, float32 ``(n_samples, n_labels)``."""
        return self.head.probabilities(self.backbone, batch).float()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that learn, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of head and pooling, which have their own learning rate."""
        return [*self.head.parameters(), *self.backbone.pooling.parameters()]
