"""Zero-bounded log-sum-exp and pairwise rank-based loss (ZLPR)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mlclf.losses.base import LossOptions, MultiLabelLoss

# Stands for minus infinity: the log-sum-exp of nothing but infinities has no derivative.
_LEFT_OUT = -1e30


class ZlprOptions(LossOptions):
    """The loss has no parameters."""

    component = "zlpr"


class ZlprLoss(MultiLabelLoss[ZlprOptions]):
    """ZLPR: the logits of labels that apply are pushed above those that do not, with 0 between them.

    A sample costs ``log(1 + sum of exp(z) over labels that do not apply) + log(1 + sum of exp(-z) over labels that
    apply)``. Cells that are not known are in neither sum. The cost belongs to the sample as a whole and grows with
    the logarithm of the number of labels, so only the worst-ranked labels have gradients to speak of. The paper
    decides at logit 0; tuned thresholds replace that. The sigmoids are no calibrated probabilities.

    Parameters
    ----------
    options : ZlprOptions or None
        Has no parameters.
    label_weights : Tensor of float32, shape (n_labels,), or None
        Factor of a label's term in the sum over the labels that apply.

    References
    ----------
    J. Su, M. Zhu, A. Murtadha, S. Pan, B. Wen, Y. Liu (2022): ZLPR: A Novel Loss for Multi-label Classification.
    arXiv:2208.02955

    Examples
    --------
    >>> import torch
    >>> from mlclf.losses import ZlprLoss
    >>> ZlprLoss()(torch.zeros(1, 3), torch.tensor([[1, 0, 0]]))
    tensor([1.7918])
    """

    Options: ClassVar[type[LossOptions]] = ZlprOptions

    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        """Return the loss of each sample."""
        applies = targets > 0
        absent = ~applies if known is None else known & ~applies
        weighted = logits if self.label_weights is None else logits - self.label_weights.log()
        return _log_one_plus_sum(logits, absent) + _log_one_plus_sum(-weighted, applies)


def _log_one_plus_sum(exponents: Tensor, members: Tensor) -> Tensor:
    """Return ``log(1 + sum of exp)`` over the members of each row; 0 where there are none."""
    return F.softplus(torch.logsumexp(exponents.masked_fill(~members, _LEFT_OUT), dim=1))
