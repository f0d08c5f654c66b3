"""Losses by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlclf.exceptions import OptionsError
from mlclf.losses.asymmetric import AsymmetricLoss
from mlclf.losses.balanced import BalancedLoss
from mlclf.losses.base import LossOptions, MultiLabelLoss
from mlclf.losses.bce import BceLoss
from mlclf.losses.distribution_balanced import DistributionBalancedLoss
from mlclf.losses.focal import FocalLoss
from mlclf.losses.statistics import did_you_mean, named_weights
from mlclf.losses.zlpr import ZlprLoss

if TYPE_CHECKING:
    from mlclf.interfaces.head import LabelStatistics

LOSSES: dict[str, type[MultiLabelLoss[Any]]] = {
    "bce": BceLoss,
    "balanced": BalancedLoss,
    "focal": FocalLoss,
    "asymmetric": AsymmetricLoss,
    "zlpr": ZlprLoss,
    "distribution-balanced": DistributionBalancedLoss,
}


def as_loss_options(loss: str | Mapping[str, Any] | LossOptions) -> LossOptions:
    """Return the parameters of a loss.

    Parameters
    ----------
    loss : str, mapping or LossOptions
        A name in :data:`LOSSES`; or ``{"name": "focal", "gamma": 1}``, as files hold it; or parameters.

    Raises
    ------
    OptionsError
        If there is no such loss, or a parameter breaks its rule.

    Examples
    --------
    >>> from mlclf.losses import as_loss_options
    >>> as_loss_options({"name": "focal", "gamma": 1})
    FocalOptions(name='focal', gamma=1.0, alpha=None)
    """
    if isinstance(loss, LossOptions):
        return loss.validated()
    if not isinstance(loss, (str, Mapping)):
        raise OptionsError(f"A loss is a name, a dictionary with a name, or loss options; got {loss!r}.")
    values: Mapping[str, Any] = {"name": loss} if isinstance(loss, str) else loss
    name = values.get("name")
    if name not in LOSSES:
        raise OptionsError(f"There is no loss {name!r}. {did_you_mean(str(name), LOSSES)}")
    return LOSSES[name].Options(**values)


def make_loss(
    loss: str | Mapping[str, Any] | LossOptions,
    statistics: LabelStatistics,
    *,
    label_weights: Mapping[str, float] | None = None,
) -> MultiLabelLoss[Any]:
    """Make a loss from its name, or from its parameters.

    Parameters
    ----------
    loss : str, mapping or LossOptions
        A name in :data:`LOSSES`, or parameters such as ``FocalOptions(gamma=1)``; see :func:`as_loss_options`.
    statistics : LabelStatistics
        Names and counts of the labels in the training rows.
    label_weights : mapping of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Returns
    -------
    MultiLabelLoss
        A module that maps ``(logits, targets, known)`` to the loss of each sample.

    Raises
    ------
    OptionsError
        If there is no such loss, or a parameter breaks its rule.
    UnknownLabelError
        If a weight is given for a name that is no label.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.interfaces import LabelStatistics
    >>> from mlclf.losses import FocalOptions, make_loss
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> make_loss(FocalOptions(gamma=1), counts, label_weights={"fear": 3}).label_weights
    tensor([1., 3.])
    """
    options = as_loss_options(loss)
    weights = named_weights(label_weights, statistics.names) if label_weights else None
    return LOSSES[options.name].from_statistics(options, statistics, weights)
