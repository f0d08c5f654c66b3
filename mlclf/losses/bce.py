"""Binary cross-entropy."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from mlclf.losses.base import CellLoss, LossOptions


class BceLossOptions(LossOptions):
    """The plain loss has no parameters."""

    component = "bce"


class BceLoss(CellLoss[BceLossOptions]):
    """Binary cross-entropy: every label is a yes/no question of its own (binary relevance).

    With ``p`` the sigmoid of the logit, a cell costs ``-log p`` where the label applies and ``-log(1 - p)`` where it
    does not; a sample costs the mean over its known cells. It is a proper scoring rule: the probabilities that it
    leads to are those found in the data.

    Parameters
    ----------
    options : BceLossOptions or None
        Has no parameters.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies.

    Examples
    --------
    >>> import torch
    >>> from mlclf.losses import BceLoss
    >>> BceLoss()(torch.zeros(1, 2), torch.tensor([[1, 0]]))
    tensor([0.6931])
    """

    Options: ClassVar[type[LossOptions]] = BceLossOptions

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
