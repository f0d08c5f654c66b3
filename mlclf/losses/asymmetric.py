"""Asymmetric loss (ASL)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mlclf.losses.base import CellLoss, LossOptions, signed

# Below the smallest step of float32 at 1, so it changes no loss; a power of exactly 0 would have an infinite
# derivative for exponents below 1.
_SMALLEST = 1e-12


class AsymmetricOptions(LossOptions):
    """How ``asymmetric`` treats cells where the label applies and all others.

    Parameters
    ----------
    gamma_neg : float
        Focusing of cells where the label does not apply.
    gamma_pos : float
        Focusing of cells where the label applies.
    clip : float
        Probability margin: where the label does not apply, probabilities below it cost nothing.
    """

    component = "asymmetric"
    gamma_neg: float = Field(default=4.0, ge=0, allow_inf_nan=False)
    gamma_pos: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    clip: float = Field(default=0.05, ge=0, lt=1)


class AsymmetricLoss(CellLoss[AsymmetricOptions]):
    """Asymmetric loss: easy negatives are down-weighted or dropped, positives are not.

    With ``p`` the sigmoid of the logit, a cell where the label applies costs ``-(1 - p) ** gamma_pos * log p``. One
    where it does not costs ``-m ** gamma_neg * log(1 - m)`` with the shifted probability ``m = max(p - clip, 0)``.

    Parameters
    ----------
    options : AsymmetricOptions or None
        None takes the paper's values: 4, 0 and 0.05.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies.

    References
    ----------
    T. Ridnik, E. Ben-Baruch, N. Zamir, A. Noy, I. Friedman, M. Protter, L. Zelnik-Manor (2021): Asymmetric Loss For
    Multi-Label Classification, equations 4 to 7. arXiv:2009.14119

    Examples
    --------
    >>> import torch
    >>> from mlclf.losses import AsymmetricLoss
    >>> AsymmetricLoss()(torch.tensor([[0.0], [-3.0]]), torch.zeros(2, 1))
    tensor([0.0245, 0.0000])
    """

    Options: ClassVar[type[LossOptions]] = AsymmetricOptions

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell: ``-(1 - q) ** gamma * log q``, ``q`` the probability of the right answer.

        The shift adds ``clip`` to ``q`` where the label does not apply; it is added to ``log q`` without leaving the
        logarithm, because ``q`` itself underflows for logits beyond 100.
        """
        options = self.options
        log_clip = math.log(options.clip) if options.clip else -math.inf
        shift = torch.full_like(logits, log_clip).masked_fill(targets > 0, -math.inf)
        log_q = torch.logaddexp(-F.softplus(-signed(logits, targets)), shift).clamp(max=0.0)
        gamma = options.gamma_neg + (options.gamma_pos - options.gamma_neg) * targets
        return -((-torch.expm1(log_q)).clamp(min=_SMALLEST) ** gamma) * log_q
