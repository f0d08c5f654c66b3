"""One logit a label from one state a label: weights that all labels share, and weights of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_OUTPUT_STD = 0.02


class StateScorer(nn.Module):
    """Score each label's state by shared weights, the label's own weights, and its bias.

    The shared weights say how a state tells that a label applies, and serve labels that nobody has seen yet. Own
    weights start at zero and learn what a label's name does not say.

    Parameters
    ----------
    hidden_size : int
    bias : Tensor of float32, shape (n_labels,)
        Where the labels' biases start.
    dropout : float
        Share of the states' values that are zeroed in training.

    Attributes
    ----------
    shared : nn.Parameter, shape (hidden_size,)
    own : nn.Parameter, shape (n_labels, hidden_size)
    bias : nn.Parameter, shape (n_labels,)

    Examples
    --------
    >>> import torch
    >>> scorer = StateScorer(8, torch.tensor([0.0, -2.0]), dropout=0.1).eval()
    >>> scorer(torch.zeros(3, 2, 8)).tolist()
    [[0.0, -2.0], [0.0, -2.0], [0.0, -2.0]]
    """

    def __init__(self, hidden_size: int, bias: Tensor, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.shared = nn.Parameter(torch.randn(hidden_size) * _OUTPUT_STD)
        self.own = nn.Parameter(torch.zeros(len(bias), hidden_size))
        self.bias = nn.Parameter(bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return logits ``(n_rows, n_labels)`` from states ``(n_rows, n_labels, hidden_size)``."""
        kept = self.dropout(states.to(self.shared.dtype))
        logits: Tensor = (kept * (self.shared + self.own)).sum(dim=-1) + self.bias
        return logits

    @torch.no_grad()
    def take_over(self, other: StateScorer, kept: Tensor, n_before: int) -> None:
        """Copy what another scorer learned: all weights of its labels, and the biases that are kept."""
        device = self.bias.device
        self.shared.copy_(other.shared)
        self.own[:n_before] = other.own.to(device)
        self.bias[kept] = other.bias.to(device)[kept[:n_before]]
