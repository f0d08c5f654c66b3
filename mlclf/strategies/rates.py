"""Options that strategies share: peak learning rates."""

from __future__ import annotations

from pydantic import Field

from mlclf.options import Options


class HeadRateOptions(Options):
    """Base of the options of strategies that train nothing in the backbone.

    Parameters
    ----------
    head_learning_rate : float or None
        Peak learning rate of head and pooling; None takes the strategy's default. ``TrainingOptions`` wins over both.
    """

    head_learning_rate: float | None = Field(default=None, gt=0)


class RateOptions(HeadRateOptions):
    """Base of the options of strategies that train something in the backbone.

    Parameters
    ----------
    learning_rate : float or None
        Peak learning rate of what learns in the backbone; None takes the strategy's default. ``TrainingOptions`` wins
        over both.
    head_learning_rate : float or None
        The same of head and pooling.
    """

    learning_rate: float | None = Field(default=None, gt=0)
