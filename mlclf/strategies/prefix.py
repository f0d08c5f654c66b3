"""Strategy ``prefix``: learned keys and values before every attention layer, computed by a network in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from mlclf.interfaces import Backbone, LearningRates
from mlclf.options import Options
from mlclf.strategies.prefix_attention import AttentionCall
from mlclf.strategies.prefix_bank import AnyPrefix, ComputedPrefix, PrefixTrunk
from mlclf.strategies.prefix_base import PrefixBase, PrefixBaseOptions


class PrefixOptions(PrefixBaseOptions):
    """Options of the strategy ``prefix``.

    Parameters
    ----------
    n_tokens : int
        Virtual tokens of each attention layer.
    hidden : int
        Size of the hidden layer of the network that computes them in training.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest. What lies below the lowest
        one stays constant and is computed once.
    learning_rate : float or None
        Peak rate of the prefixes; None takes 1e-3.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> PrefixOptions(n_tokens=8).hidden
    512
    """

    component: ClassVar[str] = "prefix"

    hidden: int = Field(default=512, ge=1)


class PrefixStrategy(PrefixBase):
    """Prefix-tuning: the backbone is frozen, and every attention layer reads learned keys and values before the text.

    Trained directly they are unstable, so that a small network computes them from one vector a virtual token. It is
    dropped once training is over: saved are the keys and values, and further training goes on from them directly.

    Parameters
    ----------
    options : PrefixOptions

    References
    ----------
    Li and Liang (2021), "Prefix-Tuning: Optimizing Continuous Prompts for Generation", arXiv:2101.00190; the network is
    that of section 4.3.

    Examples
    --------
    >>> PrefixStrategy(PrefixOptions()).learning_rates.backbone
    0.001
    """

    Options: ClassVar[type[Options]] = PrefixOptions
    typical_use = "very small saved models; many tasks over one backbone"
    learning_rates = LearningRates(backbone=1e-3, head=5e-3)
    options: PrefixOptions

    def make(self, backbone: Backbone, calls: Sequence[AttentionCall]) -> list[AnyPrefix]:
        """Return prefixes that are computed by one network."""
        trunk = PrefixTrunk(self.options.n_tokens, backbone.hidden_size, self.options.hidden)
        return [ComputedPrefix(trunk, call) for call in calls]
