"""Distribution-balanced loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mlclf.losses.base import CellLoss, LossOptions
from mlclf.losses.focal import focal_cells
from mlclf.losses.statistics import prior_logits

if TYPE_CHECKING:
    from mlclf.interfaces.head import LabelStatistics


class DistributionBalancedOptions(LossOptions):
    """Parameters of ``distribution-balanced``, under the papers' letters but for lambda, the negative scale.

    Parameters
    ----------
    alpha : float
        Floor of a cell's weight.
    beta : float
        Steepness of the weight's rise from ``alpha`` to ``alpha + 1``.
    mu : float
        Rebalancing ratio at which the weight is half-way up. Wu et al. had 0.3 and 0.2 for images, Huang et al. 0.9
        for Reuters; on GoEmotions 0.3 was better than 0.9 by every figure.
    kappa : float
        Share of the prior's logit by which logits are shifted.
    negative_scale : float
        Steepness of the loss of cells where the label does not apply; above 1 they soon cost nothing.
    gamma : float
        Focusing as in the focal loss: 0 has none, 2 is what Huang et al. report as DB.
    """

    component = "distribution-balanced"
    alpha: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    beta: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    mu: float = Field(default=0.3, ge=0, allow_inf_nan=False)
    kappa: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    negative_scale: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    gamma: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class DistributionBalancedLoss(CellLoss[DistributionBalancedOptions]):
    """Distribution-balanced loss: rebalanced weights and a limit to what negatives may push.

    *Rebalancing.* Drawing rows label by label, to even labels out, draws rows of frequent labels too often wherever
    rare and frequent labels go together. With ``n_i`` the rows of label ``i``, the ratio of the two chances to be
    drawn is ``r = (1 / n_i) / (sum of 1 / n_j over the labels j of the row)``, and a cell has the weight
    ``alpha + sigmoid(beta * (r - mu))``. A row without labels has r = 1: it is drawn as a row only.

    *Negative-tolerant regularisation.* With ``p_i`` the share of rows with label ``i`` and the shift
    ``v_i = kappa * log(1 / p_i - 1)``, a cell costs ``log(1 + exp(-(z - v)))`` where the label applies and
    ``log(1 + exp(negative_scale * (z - v))) / negative_scale`` where it does not.

    Both are multiplied, and where ``gamma`` is not 0 by the focal factor ``(1 - q) ** gamma``, ``q`` being the
    probability that the shifted and scaled logit gives to the right answer.

    Parameters
    ----------
    positives : Tensor of float32, shape (n_labels,)
        Rows of each label.
    priors : Tensor of float32, shape (n_labels,)
        Logit of each label's share of rows: ``-log(1 / p_i - 1)``.
    options : DistributionBalancedOptions or None
        None takes the defaults.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies.

    References
    ----------
    T. Wu, Q. Huang, Z. Liu, Y. Wang, D. Lin (2020): Distribution-Balanced Loss for Multi-Label Classification in
    Long-Tailed Datasets, ECCV. arXiv:2007.09654
    Y. Huang, B. Giledereli, A. Koksal, A. Ozgur, E. Ozkirimli (2021): Balancing Methods for Multi-label Text
    Classification with Long-Tailed Class Distribution, EMNLP. arXiv:2109.04712

    Examples
    --------
    >>> import numpy as np, torch
    >>> from mlclf.interfaces import LabelStatistics
    >>> from mlclf.losses import make_loss
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> make_loss("distribution-balanced", counts)(torch.zeros(2, 2), torch.eye(2))
    tensor([0.5430, 0.4705])
    """

    Options: ClassVar[type[LossOptions]] = DistributionBalancedOptions
    inverse_positives: Tensor
    shift: Tensor

    def __init__(
        self,
        positives: Tensor,
        priors: Tensor,
        options: DistributionBalancedOptions | None = None,
        label_weights: Tensor | None = None,
    ) -> None:
        super().__init__(options, label_weights)
        self.register_buffer("inverse_positives", 1.0 / positives.clamp(min=1.0), persistent=False)
        self.register_buffer("shift", -self.options.kappa * priors, persistent=False)

    @classmethod
    def from_statistics(
        cls, options: DistributionBalancedOptions, statistics: LabelStatistics, label_weights: Tensor | None
    ) -> Self:
        """Return the loss for the labels counted."""
        positives = torch.from_numpy(statistics.positives.astype(np.float32))
        return cls(positives, prior_logits(statistics), options, label_weights)

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell."""
        options = self.options
        slope = (1 + options.negative_scale) * targets - options.negative_scale
        cells = focal_cells((logits - self.shift) * slope, options.gamma)
        return cells * self.rebalancing(targets) / slope.abs()

    def rebalancing(self, targets: Tensor) -> Tensor:
        """Return the weight ``alpha + sigmoid(beta * (r - mu))`` of every cell, shape (n_samples, n_labels)."""
        options = self.options
        by_label = (targets * self.inverse_positives).sum(dim=1, keepdim=True)
        ratio = self.inverse_positives / by_label
        ratio = torch.where(by_label > 0, ratio, 1.0)
        return options.alpha + torch.sigmoid(options.beta * (ratio - options.mu))
