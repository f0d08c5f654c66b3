"""Logits of words: what a language model expects in one place, for groups of words, against what it always expects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Texts that say nothing. Zhao et al. take these and a mask token, which no text can hold here.
CONTENT_FREE = ("", "N/A")


class WordLogits(nn.Module):
    """One number a group of words: the mean over its words of the mean over the tokens of a word.

    Parameters
    ----------
    groups : sequence of groups, each a sequence of words, each a sequence of int
        Token ids. A group has at least one word, and a word at least one token.

    References
    ----------
    Hu et al. (2022), "Knowledgeable Prompt-tuning", ACL, arXiv:2108.02035: several words a label, and the mean over the
    tokens of a word, at one hidden place.

    Examples
    --------
    >>> import torch
    >>> logits = WordLogits([[[0]], [[1], [2, 3]]])
    >>> logits(torch.tensor([[5.0, 1.0, 2.0, 4.0]]), lambda states, ids: states[:, ids])
    tensor([[5., 2.]])
    """

    pieces: Tensor
    places: Tensor
    shares: Tensor

    def __init__(self, groups: Sequence[Sequence[Sequence[int]]]) -> None:
        super().__init__()
        pieces = sorted({piece for words in groups for word in words for piece in word})
        index = {piece: place for place, piece in enumerate(pieces)}
        rows = [[(index[piece], 1 / (len(words) * len(word))) for word in words for piece in word] for words in groups]
        longest = max(map(len, rows))
        padded = [row + [(0, 0.0)] * (longest - len(row)) for row in rows]
        # They follow from labels and tokenizer, so that nothing of them is saved.
        self.register_buffer("pieces", torch.tensor(pieces), persistent=False)
        self.register_buffer("places", torch.tensor([[p for p, _ in row] for row in padded]), persistent=False)
        self.register_buffer("shares", torch.tensor([[s for _, s in row] for row in padded]), persistent=False)

    def forward(self, states: Tensor, vocabulary: nn.Module) -> Tensor:
        """Return the groups' numbers.

        Parameters
        ----------
        states : Tensor, shape (n, hidden)
            What the model computed in the place.
        vocabulary : nn.Module
            The backbone's output layer.

        Returns
        -------
        Tensor of float32, shape (n, n_groups)
        """
        logits = vocabulary(states, self.pieces).float()
        found: Tensor = (logits[:, self.places] * self.shares).sum(dim=2)
        return found


class CalibratedLogits(nn.Module):
    """A language model's evidence for each label as a logit.

    What the model expects whatever it reads is taken off: its answer to texts that say nothing. What is left is 0 where
    a text changes nothing, so that a probability above 0.5 is evidence for the label. Training learns a scale, as
    differences of a language model's logits need not be log-odds, and a bias for each label.

    Parameters
    ----------
    bias : Tensor of float32, shape (n_labels,)
        Where the biases start.

    Attributes
    ----------
    baseline : Tensor of float32, shape (n_labels,)
        What is taken off; set by the head.

    References
    ----------
    Zhao et al. (2021), "Calibrate Before Use", ICML, arXiv:2102.09690.

    Examples
    --------
    >>> import torch
    >>> logits = CalibratedLogits(torch.zeros(2))
    >>> logits.baseline.copy_(torch.tensor([3.0, 1.0])).tolist(), logits(torch.tensor([[4.0, 1.0]])).tolist()
    ([3.0, 1.0], [[1.0, 0.0]])
    """

    baseline: Tensor

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("baseline", torch.zeros_like(bias))
        self.scale = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(bias.clone())

    def forward(self, evidence: Tensor) -> Tensor:
        """Return logits, shape (n, n_labels)."""
        return (evidence - self.baseline) * self.scale + self.bias
