"""Where the output bias of a head starts: at the logits of the labels' frequencies, or at 0."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mlclf.interfaces.head import LabelStatistics
from mlclf.losses import prior_logits


class PriorBias(Protocol):
    """Options of a head whose user may choose where the output bias starts."""

    @property
    def prior_bias(self) -> bool:
        """Whether it starts at the logits of the labels' frequencies instead of 0."""


def first_bias(options: PriorBias, labels: LabelStatistics) -> Tensor:
    """Return the output bias with which training begins.

    At the logits of the labels' frequencies, training need not learn first how rare labels are (Lin et al. 2017,
    arXiv:1708.02002, section 3.3). A label that no row tells about has the mean of the others.

    Parameters
    ----------
    options : object with a field ``prior_bias``
        Of the head; where False, the bias is 0.
    labels : LabelStatistics
        Counts of the training rows.

    Returns
    -------
    Tensor of float32, shape (n_labels,)

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf import BceOptions
    >>> from mlclf.heads import first_bias
    >>> from mlclf.interfaces import LabelStatistics
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> first_bias(BceOptions(), counts).sigmoid()
    tensor([0.5000, 0.1000])
    >>> first_bias(BceOptions(prior_bias=False), counts)
    tensor([0., 0.])
    """
    if not options.prior_bias:
        return torch.zeros(labels.n_labels)
    logits, told = prior_logits(labels), torch.from_numpy(labels.known > 0)
    return torch.where(told, logits, logits[told].mean()) if told.any() else logits


@torch.no_grad()
def restart_bias(bias: Tensor, options: PriorBias, before: LabelStatistics, after: LabelStatistics) -> None:
    """Put the bias of labels that no row told about so far at its start, where that is their frequency.

    For :meth:`mlclf.interfaces.Head.grow`: what the labels of earlier rows have learned stays.

    Parameters
    ----------
    bias : Tensor, shape (n_labels,)
        Output bias of the grown head; changed in place.
    options : object with a field ``prior_bias``
        Of the head; where False, nothing is changed.
    before, after : LabelStatistics
        Counts of the earlier rows, and of all rows now.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from mlclf import BceOptions
    >>> from mlclf.heads import restart_bias
    >>> from mlclf.interfaces import LabelStatistics
    >>> before = LabelStatistics(("joy",), positives=np.array([49]), known=np.array([98]))
    >>> after = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> bias = torch.tensor([0.25, 0.0])
    >>> restart_bias(bias, BceOptions(), before, after)
    >>> bias
    tensor([ 0.2500, -2.1972])
    """
    if not options.prior_bias:
        return
    untold = torch.ones(after.n_labels, dtype=torch.bool)
    untold[: before.n_labels] = torch.from_numpy(before.known == 0)
    bias[untold.to(bias.device)] = first_bias(options, after)[untold].to(bias)
