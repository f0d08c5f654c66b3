"""Binary cross-entropy that lets a label's few positives count more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mlclf.losses.base import CellLoss, LossOptions

if TYPE_CHECKING:
    from mlclf.interfaces.head import LabelStatistics


class BalancedOptions(LossOptions):
    """How strongly ``balanced`` evens out positives and negatives.

    Parameters
    ----------
    power : float
        A positive counts ``(negatives / positives) ** power`` times; 1 evens both out, 0 is plain BCE. The default,
        a square root, is the sounder choice where labels are rare: with a small network over frozen sentence vectors
        of GoEmotions, macro-F1 at 0.5 was .20 with 0, .33 with 0.5 and .22 with 1, mean average precision .31, .29
        and .25.
    ceiling : float
        Largest weight, and one over the smallest.
    """

    component = "balanced"
    power: float = Field(default=0.5, ge=0, le=1)
    ceiling: float = Field(default=100.0, ge=1, allow_inf_nan=False)


class BalancedLoss(CellLoss[BalancedOptions]):
    """Binary cross-entropy with weighted positives, the weights taken from the training rows.

    The cost of a cell is that of :class:`BceLoss`, times a weight where the label applies. The weight of a label is
    the number of known rows without it over the number with it (one added to both, so that it is finite), to a
    power, and kept between ``1 / ceiling`` and ``ceiling``: beyond it, one row of a very rare label would outweigh a
    whole batch. Weighting raises recall at the cost of precision and of calibration.

    Parameters
    ----------
    options : BalancedOptions or None
        None takes the defaults.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies; see :func:`balanced_weights`.

    References
    ----------
    G. King, L. Zeng (2001): Logistic Regression in Rare Events Data, Political Analysis 9(2).
    doi:10.1093/oxfordjournals.pan.a004868

    Examples
    --------
    >>> import numpy as np, torch
    >>> from mlclf.interfaces import LabelStatistics
    >>> from mlclf.losses import make_loss
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> make_loss("balanced", counts)(torch.zeros(2, 2), torch.eye(2))
    tensor([0.6931, 1.3863])
    """

    Options: ClassVar[type[LossOptions]] = BalancedOptions

    @classmethod
    def from_statistics(
        cls, options: BalancedOptions, statistics: LabelStatistics, label_weights: Tensor | None
    ) -> Self:
        """Return the loss with weights from the counts, times the weights given by label."""
        weights = balanced_weights(statistics, options)
        return cls(options, weights if label_weights is None else weights * label_weights)

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def balanced_weights(statistics: LabelStatistics, options: BalancedOptions) -> Tensor:
    """Return how often a positive cell of each label counts, float32 ``(n_labels,)``."""
    negatives = statistics.known - statistics.positives
    ratio = (negatives + 1.0) / (statistics.positives + 1.0)
    weights = np.clip(ratio**options.power, 1.0 / options.ceiling, options.ceiling)
    return torch.from_numpy(weights.astype(np.float32))
