"""Pooling: one vector a row from the states of its tokens.

Every pooling maps ``tokens (n_rows, length, hidden)`` and ``mask (n_rows, length)``, True where there is a token,
to ``(n_rows, hidden)`` in float32; padding never changes the result, on whichever side it is, and a row that is all
padding gives a finite vector. Only operations that ONNX has are used.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PoolingName = Literal["mean", "cls", "last", "max", "attention"]


class ClsPooling(nn.Module):
    """Take the state of each row's first token.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[9.0], [1.0], [2.0]]])
    >>> ClsPooling()(tokens, torch.tensor([[False, True, True]])).tolist()
    [[1.0]]
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return ``(n_rows, hidden)``."""
        first = mask.long().argmax(dim=1)
        index = first[:, None, None].expand(-1, 1, tokens.shape[2])
        return tokens.gather(1, index).squeeze(1).float()


class LastPooling(nn.Module):
    """Take the state of each row's last token, the only one of a causal model that has read them all.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[1.0], [2.0], [9.0]]])
    >>> LastPooling()(tokens, torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return ``(n_rows, hidden)``."""
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = (mask.long() * positions).argmax(dim=1)
        index = last[:, None, None].expand(-1, 1, tokens.shape[2])
        return tokens.gather(1, index).squeeze(1).float()


class MeanPooling(nn.Module):
    """Average the states of each row's tokens.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> MeanPooling()(tokens, torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return ``(n_rows, hidden)``."""
        weights = mask.unsqueeze(-1).float()
        return (tokens.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


class MaxPooling(nn.Module):
    """Take the largest value of each feature over a row's tokens; zeros where a row has no token.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[-1.0], [-3.0], [9.0]]])
    >>> MaxPooling()(tokens, torch.tensor([[True, True, False]])).tolist()
    [[-1.0]]
    """

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return ``(n_rows, hidden)``."""
        lowest = torch.finfo(tokens.dtype).min
        highest = tokens.masked_fill(~mask.unsqueeze(-1), lowest).amax(dim=1)
        return highest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0).float()


class AttentionPooling(nn.Module):
    """Average the states with weights from a learned query (Yang et al., 2016, doi:10.18653/v1/N16-1174).

    The query starts at zero, where the weights are equal: training starts from mean pooling.

    Parameters
    ----------
    hidden_size : int
        Size of a token state.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> AttentionPooling(1)(tokens, torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return ``(n_rows, hidden)``."""
        tokens = tokens.float()
        scores = (torch.tanh(self.projection(tokens)).float() * self.query).sum(dim=-1)
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1)
        return (tokens * weights.unsqueeze(-1)).sum(dim=1)


def make_pooling(name: PoolingName, hidden_size: int) -> nn.Module:
    """Return the pooling of that name.

    Examples
    --------
    >>> make_pooling("mean", 384)
    MeanPooling()
    """
    if name == "attention":
        return AttentionPooling(hidden_size)
    return {"mean": MeanPooling, "cls": ClsPooling, "last": LastPooling, "max": MaxPooling}[name]()
