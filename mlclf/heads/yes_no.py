"""Yes or no: what a language model answers behind a label's name, as the label's logit."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mlclf.encoding import MASK_TOKENS, find_mask_id
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.heads.verbalizer_prompt import words_in_place
from mlclf.heads.word_logits import CalibratedLogits, WordLogits
from mlclf.interfaces.backbone import Backbone

# What stands before the answer: the end of a label's name and a colon.
_CONTEXT = "a: "


class YesNoScorer(nn.Module):
    """The model's log-odds of yes against no, less those behind texts that say nothing; scale and biases are learned.

    Parameters
    ----------
    backbone : Backbone
        With its output layer over the vocabulary.
    yes, no : list of str
        The answers; several words are averaged.
    bias : Tensor of float32, shape (n_labels,)
        Where the labels' biases start.

    References
    ----------
    Zhao et al. (2021), "Calibrate Before Use", ICML, arXiv:2102.09690.
    """

    def __init__(self, backbone: Backbone, yes: list[str], no: list[str], bias: Tensor) -> None:
        super().__init__()
        found = words_in_place(backbone.encoder.tokenizer, _CONTEXT, [*yes, *no])
        self.words = WordLogits([found[: len(yes)], found[len(yes) :]])
        self.output = CalibratedLogits(bias)

    def forward(self, states: Tensor, vocabulary: nn.Module | None) -> Tensor:
        """Return logits, float32 ``(n_rows, n_labels)``, from states ``(n_rows, n_labels, hidden)``."""
        logits: Tensor = self.output(self.evidence(states, vocabulary))
        return logits

    def evidence(self, states: Tensor, vocabulary: nn.Module | None) -> Tensor:
        """Return the log-odds of yes against no, float32 ``(n_rows, n_labels)``."""
        answers = self.words(states.flatten(0, 1), cast(nn.Module, vocabulary))
        log_odds: Tensor = (answers[:, 0] - answers[:, 1]).reshape(states.shape[:2])
        return log_odds

    @torch.no_grad()
    def take_over(self, other: YesNoScorer, kept: Tensor, n_before: int) -> None:
        """Copy what another scorer learned: the scale, the baselines of its labels, and the biases that are kept."""
        mine, theirs = self.output, other.output
        mine.scale.copy_(theirs.scale)
        mine.baseline[:n_before] = theirs.baseline.to(mine.baseline.device)
        mine.bias[kept] = theirs.bias.to(mine.bias.device)[kept[:n_before]]


def with_mask(backbone: Backbone, rows: list[list[int]]) -> list[list[int]]:
    """Return branches with the place of the answer: the hidden word; for causal models it is what comes next.

    Raises
    ------
    IncompatibleComponentsError
        If the tokenizer of a masked language model has no mask token.
    """
    if backbone.family == "causal-lm":
        return rows
    mask = find_mask_id(backbone.encoder.tokenizer)
    if mask is None:
        raise IncompatibleComponentsError(
            f"LabelQueryOptions(scorer='verbalizer') asks for a hidden word, and the tokenizer of backbone "
            f"{backbone.options.component!r} has no token for it (looked for {', '.join(MASK_TOKENS)}). Use "
            "scorer='linear', or a masked language model."
        )
    return [[*row, mask] for row in rows]
