"""Strategy ``p-tuning``: virtual tokens among the embeddings, computed by a network in training."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mlclf.interfaces import LearningRates
from mlclf.options import Options
from mlclf.strategies.prompt_base import PromptBase, PromptBaseOptions


class PTuningOptions(PromptBaseOptions):
    """Options of the strategy ``p-tuning``.

    Parameters
    ----------
    n_tokens : int
        Virtual tokens; a text may be so many tokens shorter where the model has a limit.
    encoder : {"lstm", "mlp"}
        Network that computes them in training: a bidirectional LSTM of two layers with a small network after it, or a
        network of two hidden layers that computes each by itself.
    hidden : int
        Size of its hidden layers.
    learning_rate : float or None
        Peak rate of the network; None takes 1e-3.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> PTuningOptions(encoder="mlp").hidden
    256
    """

    component: ClassVar[str] = "p-tuning"

    encoder: Literal["lstm", "mlp"] = "lstm"
    hidden: int = Field(default=256, ge=1)


class LstmPrompt(nn.Module):
    """Virtual tokens that an LSTM reads in both directions, so that each depends on the others.

    Parameters
    ----------
    n_tokens, size, hidden : int
        Virtual tokens, size of an embedding, and size of the hidden layers.

    Examples
    --------
    >>> LstmPrompt(4, 8, 16)().shape
    torch.Size([4, 8])
    """

    def __init__(self, n_tokens: int, size: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(n_tokens, size))
        self.lstm = nn.LSTM(size, hidden, num_layers=2, bidirectional=True)
        self.output = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, size))

    def forward(self) -> Tensor:
        """Return the embeddings, shape ``(n_tokens, size)``."""
        embeddings: Tensor = self.output(self.lstm(self.tokens)[0])
        return embeddings


class MlpPrompt(nn.Module):
    """Virtual tokens that a network of two hidden layers computes, each from a vector of its own.

    Parameters
    ----------
    n_tokens, size, hidden : int
        Virtual tokens, size of an embedding, and size of the hidden layers.

    Examples
    --------
    >>> MlpPrompt(4, 8, 16)().shape
    torch.Size([4, 8])
    """

    def __init__(self, n_tokens: int, size: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(n_tokens, size))
        first, second = nn.Linear(size, hidden), nn.Linear(hidden, hidden)
        self.output = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(hidden, size))

    def forward(self) -> Tensor:
        """Return the embeddings, shape ``(n_tokens, size)``."""
        embeddings: Tensor = self.output(self.tokens)
        return embeddings


_ENCODERS: dict[str, type[LstmPrompt] | type[MlpPrompt]] = {"lstm": LstmPrompt, "mlp": MlpPrompt}


class PTuningStrategy(PromptBase):
    """P-Tuning: the backbone is frozen, and reads virtual tokens with each text that a small network computes.

    The network is dropped once training is over: saved are the tokens, and further training goes on from them directly.

    Parameters
    ----------
    options : PTuningOptions

    References
    ----------
    Liu et al. (2021), "GPT Understands, Too", arXiv:2103.10385.

    Examples
    --------
    >>> PTuningStrategy(PTuningOptions()).learning_rates.backbone
    0.001
    """

    Options: ClassVar[type[Options]] = PTuningOptions
    typical_use = "the smallest saved models, with tokens that depend on each other"
    learning_rates = LearningRates(backbone=1e-3, head=5e-3)
    options: PTuningOptions

    def make(self, table: Tensor) -> nn.Module:
        """Return the network that computes the tokens."""
        return _ENCODERS[self.options.encoder](self.options.n_tokens, table.shape[1], self.options.hidden)
