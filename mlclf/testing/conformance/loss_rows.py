"""The logits, targets and losses that checks of losses use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlclf.interfaces import LabelStatistics
from mlclf.losses import MultiLabelLoss
from mlclf.testing.conformance.partners import given
from mlclf.testing.conformance.samples import label_names, targets_for
from mlclf.testing.conformance.workbench import Workbench

# Logit of an answer that is given with confidence.
SURE = 4.0


@dataclass(frozen=True)
class LossRows:
    """What a loss is computed from.

    Parameters
    ----------
    logits : Tensor of float32, shape (n_samples, n_labels)
    targets : Tensor of float32, shape (n_samples, n_labels)
    known : Tensor of bool, shape (n_samples, n_labels)
        The last sample has no known cell, the others have some.
    """

    logits: Tensor
    targets: Tensor
    known: Tensor

    @property
    def labelled(self) -> Tensor:
        """Samples to which some label applies, shape (n_samples,)."""
        return self.targets.any(dim=1)

    @property
    def right(self) -> Tensor:
        """Logits of nothing but right answers, shape (n_samples, n_labels)."""
        return SURE * (2 * self.targets - 1)


def loss_rows(n_samples: int = 8, n_labels: int = 3) -> LossRows:
    """Return random logits and targets; the first two samples have all labels and none.

    Examples
    --------
    >>> loss_rows(3).targets.sum(dim=1)[:2].tolist()
    [3.0, 0.0]
    """
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn((n_samples, n_labels), generator=generator)
    targets = (torch.rand((n_samples, n_labels), generator=generator) < 0.5).float()
    targets[:1], targets[1:2] = 1, 0
    known = torch.rand((n_samples, n_labels), generator=generator) < 0.6
    known[:, 0], known[-1] = True, False
    return LossRows(logits, targets, known)


def make_one(
    bench: Workbench, n_labels: int = 3, weights: Tensor | None = None, counts: LabelStatistics | None = None
) -> MultiLabelLoss[Any]:
    """Return the loss under test, made for some labels as heads make it."""
    names = label_names(n_labels)
    options = given(bench.choice, names)
    loss: MultiLabelLoss[Any] = bench.component.from_statistics(options, counts or _counts(names), weights)
    return loss


def rare_counts() -> LabelStatistics:
    """Return the counts of labels that no row has, that one has, that all have, and that no row tells about.

    They are what a saved model has: counts without targets.
    """
    return LabelStatistics(label_names(4), positives=np.array([0, 1, 500, 0]), known=np.array([500, 500, 500, 0]))


def _counts(names: tuple[str, ...]) -> LabelStatistics:
    targets = targets_for(names)
    return LabelStatistics(names, targets.positives, targets.known_counts, targets)
