"""Focal loss."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mlclf.losses.base import CellLoss, LossOptions, signed


class FocalOptions(LossOptions):
    """How ``focal`` tells easy cells from hard ones.

    Parameters
    ----------
    gamma : float
        How fast a cell loses weight as it is answered better; 0 is binary cross-entropy.
    alpha : float or None
        Weight of cells where the label applies, ``1 - alpha`` being that of the others; None gives both weight 1.
    """

    component = "focal"
    gamma: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    alpha: float | None = Field(default=None, gt=0, lt=1)


class FocalLoss(CellLoss[FocalOptions]):
    """Focal loss: cells that are answered well already count less.

    With ``q`` the probability given to the right answer, a cell costs ``-(1 - q) ** gamma * log q``, so that the many
    easy negatives of a rare label do not drown its few positives. With ``alpha``, cells where the label applies cost
    ``alpha`` times that and all others ``1 - alpha`` times that.

    Parameters
    ----------
    options : FocalOptions or None
        None takes the defaults: the paper's gamma of 2, without alpha.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies.

    References
    ----------
    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollar (2017): Focal Loss for Dense Object Detection, equations 4
    and 5. arXiv:1708.02002

    Examples
    --------
    >>> import torch
    >>> from mlclf.losses import FocalLoss
    >>> FocalLoss()(torch.tensor([[0.0], [4.0]]), torch.ones(2, 1))
    tensor([1.7329e-01, 5.8716e-06])
    """

    Options: ClassVar[type[LossOptions]] = FocalOptions

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell."""
        cells = focal_cells(signed(logits, targets), self.options.gamma)
        alpha = self.options.alpha
        return cells if alpha is None else cells * (1 - alpha + (2 * alpha - 1) * targets)


def focal_cells(right: Tensor, gamma: float) -> Tensor:
    """Return ``-(1 - q) ** gamma * log q`` with ``q`` the sigmoid of ``right``.

    ``1 - q`` is the exponential of ``log q - right``. Powers are taken in the exponent: a power of ``1 - q`` itself
    has an infinite derivative at 0 where gamma is below 1.
    """
    cross_entropy = F.softplus(-right)
    if gamma == 0:
        return cross_entropy
    return torch.exp(-gamma * (cross_entropy + right)) * cross_entropy
