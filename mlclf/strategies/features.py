"""Strategy ``features``: the backbone as a fixed extractor of one vector a text."""

from __future__ import annotations

from typing import ClassVar

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone
from mlclf.options import Options
from mlclf.strategies.head_only import HeadOnlyStrategy
from mlclf.strategies.rates import HeadRateOptions


class FeaturesOptions(HeadRateOptions):
    """Options of the strategy ``features``.

    Parameters
    ----------
    head_learning_rate : float or None
        Peak rate of the head; None takes 1e-2.

    Examples
    --------
    >>> FeaturesOptions().component
    'features'
    """

    component: ClassVar[str] = "features"


class FeaturesStrategy(HeadOnlyStrategy):
    """The head learns from pooled vectors, which never change and are computed once.

    The difference to ``head-only`` is a promise: nothing below the head has weights that learn, so that one vector a
    text is all that is kept, and an epoch costs as much as one of logistic regression.

    Parameters
    ----------
    options : FeaturesOptions

    Examples
    --------
    >>> FeaturesStrategy(FeaturesOptions()).learning_rates.head
    0.01
    """

    Options: ClassVar[type[Options]] = FeaturesOptions
    typical_use = "a baseline in seconds; searching over heads and losses"

    def check(self, backbone: Backbone) -> None:
        """Refuse a pooling with weights: its vectors would change with every step."""
        if any(True for _ in backbone.pooling.parameters()):
            raise IncompatibleComponentsError(
                "Strategy 'features' computes pooled vectors once, and this pooling has weights that learn. "
                "Use pooling='mean', 'cls' or 'max', or strategy='head-only', which trains the pooling too."
            )
