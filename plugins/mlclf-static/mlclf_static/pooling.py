"""Mean of a text's tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class MeanPooling(nn.Module):
    """Average the states of each row's tokens.

    Parameters
    ----------
    normalize : bool
        Whether the average is given unit length.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> MeanPooling()(tokens, torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return ``(n_rows, hidden)``, float32."""
        weights = mask.unsqueeze(-1).float()
        pooled = (tokens.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        return F.normalize(pooled, dim=1) if self.normalize else pooled
