"""Losses by name: built-in ones, and those of plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from mlclf.exceptions import OptionsError, UnknownComponentError
from mlclf.losses.base import LossOptions, MultiLabelLoss
from mlclf.losses.statistics import named_weights
from mlclf.plugins.registry import resolve, resolve_named

if TYPE_CHECKING:
    from mlclf.interfaces.head import LabelStatistics


def as_loss_options(loss: str | Mapping[str, Any] | LossOptions) -> LossOptions:
    """Return the parameters of a loss.

    Parameters
    ----------
    loss : str, mapping or LossOptions
        A name (``"focal"``, ``"acme:soft-f1"``); or ``{"name": "focal", "gamma": 1}``, as files hold it; or parameters.

    Raises
    ------
    OptionsError
        If there is no such loss, or a parameter breaks its rule.
    PluginError
        If it is a plugin's, and the plugin is not installed or cannot be used.

    Examples
    --------
    >>> from mlclf.losses import as_loss_options
    >>> as_loss_options({"name": "focal", "gamma": 1})
    FocalOptions(gamma=1.0, alpha=None)
    """
    if not isinstance(loss, (str, Mapping, LossOptions)):
        raise OptionsError(f"A loss is a name, a dictionary with a name, or loss options; got {loss!r}.")
    try:
        options = resolve_named("loss", loss)
    except UnknownComponentError as error:
        raise OptionsError(str(error)) from error
    assert isinstance(options, LossOptions)
    return options


def _checked(loss: Any) -> Any:
    """Refuse names that no loss has, and turn a dictionary into parameters."""
    options = as_loss_options(loss)
    return loss if isinstance(loss, str) else options


# The type of an option that chooses a loss, with the check of the choice.
LossChoice = Annotated[str | SerializeAsAny[LossOptions], BeforeValidator(_checked)]


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
        A name, or parameters such as ``FocalOptions(gamma=1)``; see :func:`as_loss_options`.
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
        If there is no such loss, or a parameter breaks its rule, or weights are given to a loss that takes none.
    PluginError
        If it is a plugin's, and the plugin is not installed or cannot be used.
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
    component: type[MultiLabelLoss[Any]] = resolve("loss", options)[1]
    if weights is not None and not component.weighs_labels:
        raise OptionsError(
            f"Loss {options.component!r} takes no weights of labels (weighs_labels=False), got label_weights="
            f"{dict(label_weights or {})!r}. Leave label_weights out, or choose another loss."
        )
    return component.from_statistics(options, statistics, weights)
