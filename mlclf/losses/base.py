"""What all losses share: precision, unknown cells, weights of labels and one figure a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from mlclf.exceptions import InvalidInputError
from mlclf.options import NamedOptions

if TYPE_CHECKING:
    from mlclf.interfaces.head import LabelStatistics


class LossOptions(NamedOptions):
    """Base of the parameters of a loss; ``component`` is the name under which the loss is known."""

    kind = "loss"


OptionsType = TypeVar("OptionsType", bound=LossOptions)


class MultiLabelLoss(nn.Module, ABC, Generic[OptionsType]):
    """Base of losses of logits, targets and a mask of known cells.

    A loss is computed in float32, whatever the type of the logits (float64 stays float64). Cells that are not known
    have no part in it, whatever stands in them. Subclasses write ``rows``, or extend :class:`CellLoss` and write
    ``cells``; those that use label counts override ``from_statistics``. A loss has no weights that are saved: what it
    needs follows from options and counts.

    Parameters
    ----------
    options : LossOptions or None
        Parameters of the loss, of the class named in ``Options``; None takes the defaults.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies; once for every label where None.

    Attributes
    ----------
    Options : type
        Class of its options, whose ``component`` is the registered name; must be set.
    weighs_labels : bool
        Whether ``label_weights`` change the loss. Where False, :func:`make_loss` refuses weights instead of dropping
        them.

    Examples
    --------
    A whole loss that looks at a sample's labels together, one minus their soft F1:

    >>> import torch
    >>> from mlclf.losses import LossOptions, MultiLabelLoss
    >>> class SoftF1Options(LossOptions):
    ...     component = "local:soft-f1"
    >>> class SoftF1(MultiLabelLoss[SoftF1Options]):
    ...     Options = SoftF1Options
    ...     weighs_labels = False
    ...     def rows(self, logits, targets, known):
    ...         p = logits.sigmoid()
    ...         if known is not None:
    ...             p = p.masked_fill(~known, 0.0)
    ...         return 1 - 2 * (p * targets).sum(dim=1) / (p + targets).sum(dim=1).clamp(min=1e-6)
    >>> SoftF1()(torch.tensor([[9.0, -9.0]]), torch.tensor([[1, 0]])).round(decimals=3).tolist()
    [0.0]
    """

    Options: ClassVar[type[LossOptions]]
    weighs_labels: ClassVar[bool] = True
    label_weights: Tensor | None

    def __init__(self, options: OptionsType | None = None, label_weights: Tensor | None = None) -> None:
        super().__init__()
        self.options: OptionsType = cast(OptionsType, self.Options()) if options is None else options
        # Not persistent: the weights follow from options and label counts, and these are saved already.
        self.register_buffer("label_weights", label_weights, persistent=False)

    @classmethod
    def from_statistics(cls, options: OptionsType, statistics: LabelStatistics, label_weights: Tensor | None) -> Self:
        """Return the loss for the labels counted; losses that use the counts override this.

        Parameters
        ----------
        options : LossOptions
        statistics : LabelStatistics
            Names and counts of the labels in the training rows; without the targets where a saved model is loaded.
        label_weights : Tensor of float32, shape (n_labels,), or None
            Weights that the user gave by label.
        """
        return cls(options, label_weights)

    def forward(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the loss of each sample.

        Parameters
        ----------
        logits : Tensor of any float type, shape (n_samples, n_labels)
        targets : Tensor of float, int or bool, shape (n_samples, n_labels)
            1 where the label applies, 0 where it does not.
        known : Tensor of bool, shape (n_samples, n_labels), or None
            False where it is not known whether the label applies; None where all cells are known.

        Returns
        -------
        Tensor of float32, shape (n_samples,)
            0 where no cell of a sample is known.

        Raises
        ------
        InvalidInputError
            If the shapes differ.
        """
        _check_shape("targets", targets, logits)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        targets = targets.to(logits.dtype)
        if known is None:
            return self.rows(logits, targets, None)
        _check_shape("known", known, logits)
        losses = self.rows(logits, targets.masked_fill(~known, 0.0), known)
        return losses.masked_fill(~known.any(dim=1), 0.0)

    @abstractmethod
    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        """Return the loss of each sample; targets have the logits' type and are 0 where they are not known."""


class CellLoss(MultiLabelLoss[OptionsType]):
    """Base of losses that are a mean over cells, a cell being one sample and one label."""

    @abstractmethod
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell, shape (n_samples, n_labels), before ``label_weights``."""

    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        """Return the mean over the known cells of each sample."""
        cells = self.cells(logits, targets)
        if self.label_weights is not None:
            cells = cells * torch.where(targets > 0, self.label_weights, 1.0)
        if known is None:
            return cells.mean(dim=1)
        return cells.masked_fill(~known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def signed(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logit of the right answer: the logit itself where the label applies, and negated where not."""
    return logits * (2 * targets - 1)


def _check_shape(name: str, tensor: Tensor, logits: Tensor) -> None:
    if tensor.shape != logits.shape:
        raise InvalidInputError(
            f"A loss needs {name} of the logits' shape {tuple(logits.shape)}, got {tuple(tensor.shape)}."
        )
