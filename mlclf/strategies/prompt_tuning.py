"""Strategy ``prompt-tuning``: virtual tokens among the embeddings, trained directly."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from mlclf.interfaces import LearningRates
from mlclf.options import Options
from mlclf.strategies.prompt_base import PromptBase, PromptBaseOptions
from mlclf.strategies.soft_prompt import PlainPrompt


class PromptTuningOptions(PromptBaseOptions):
    """Options of the strategy ``prompt-tuning``.

    Parameters
    ----------
    n_tokens : int
        Virtual tokens; a text may be so many tokens shorter where the model has a limit.
    init : {"vocabulary", "random"}
        How they start: as tokens drawn from the vocabulary, or as random numbers that are spread as its tokens are.
    learning_rate : float or None
        Peak rate of the virtual tokens; None takes 5e-2.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> PromptTuningOptions(n_tokens=20).init
    'vocabulary'
    """

    component: ClassVar[str] = "prompt-tuning"

    init: Literal["vocabulary", "random"] = "vocabulary"


class PromptTuningStrategy(PromptBase):
    """Prompt tuning: the backbone is frozen, and reads learned virtual tokens with each text.

    The fewest weights of all strategies that change what the backbone does, and slow to learn.

    Parameters
    ----------
    options : PromptTuningOptions

    References
    ----------
    Lester et al. (2021), "The Power of Scale for Parameter-Efficient Prompt Tuning", arXiv:2104.08691.

    Examples
    --------
    >>> PromptTuningStrategy(PromptTuningOptions()).learning_rates.backbone
    0.05
    """

    Options: ClassVar[type[Options]] = PromptTuningOptions
    typical_use = "large causal models, where a few thousand weights are enough"
    learning_rates = LearningRates(backbone=5e-2, head=5e-3)
    options: PromptTuningOptions

    def make(self, table: Tensor) -> PlainPrompt:
        """Return tokens of the vocabulary, or random ones."""
        if self.options.init == "vocabulary":
            rows = torch.randint(table.shape[0], (self.options.n_tokens,))
            return PlainPrompt(table[rows.to(table.device)])
        return PlainPrompt(torch.randn(self.options.n_tokens, table.shape[1]) * table.std().cpu())
