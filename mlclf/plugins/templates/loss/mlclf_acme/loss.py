"""Loss ``acme:loss``: binary cross-entropy with smoothed targets."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mlclf.losses import CellLoss, LossOptions


class AcmeLossOptions(LossOptions):
    """Options of the loss ``acme:loss``.

    Parameters
    ----------
    smoothing : float
        Share of a target that is spread evenly over yes and no: 0 is plain binary cross-entropy.
    """

    component: ClassVar[str] = "acme:loss"

    smoothing: float = Field(default=0.05, ge=0, lt=1)


class AcmeLoss(CellLoss[AcmeLossOptions]):
    """Binary cross-entropy with smoothed targets, so that no answer is pushed to certainty.

    A loss that is no mean over cells extends ``MultiLabelLoss`` and writes ``rows`` instead of ``cells``; one that uses
    label counts overrides ``from_statistics`` and registers what it makes of them as buffers.

    Parameters
    ----------
    options : AcmeLossOptions or None
        None takes the defaults.
    label_weights : Tensor of float32, shape (n_labels,), or None
        How often a cell counts where the label applies; ``CellLoss`` sees to it.

    References
    ----------
    C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna (2016): Rethinking the Inception Architecture for Computer
    Vision, section 7. arXiv:1512.00567
    """

    Options: ClassVar[type[LossOptions]] = AcmeLossOptions

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every cell ``(n_samples, n_labels)``, from logits of float32 and targets of 0 and 1."""
        smoothing = self.options.smoothing
        smooth = targets * (1 - smoothing) + smoothing / 2
        # Logits, not probabilities: the logarithm of a sigmoid is infinite where it underflows.
        return functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
