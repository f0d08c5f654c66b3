"""The conformance kit on losses: each rule is kept by good ones, and seen to be broken where it is."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conformance_kit import checks_of_kind, failures, not_applicable, report_of
from torch import Tensor, nn

from mlclf.exceptions import OptionsError
from mlclf.interfaces import LabelStatistics
from mlclf.losses import (
    AsymmetricOptions,
    BalancedOptions,
    CellLoss,
    DistributionBalancedOptions,
    FocalOptions,
    LossOptions,
    MultiLabelLoss,
    make_loss,
)
from mlclf.plugins import PluginManager, register_loss, use_manager
from mlclf.testing import component_checks, run_checks


class GoodLossOptions(LossOptions):
    component: ClassVar[str] = "local:good-loss"


class GoodLoss(CellLoss[GoodLossOptions]):
    """Squared hinge."""

    Options: ClassVar[type[LossOptions]] = GoodLossOptions

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.relu(1 - logits * (2 * targets - 1)) ** 2 / 100


class SoftF1(MultiLabelLoss[GoodLossOptions]):
    Options: ClassVar[type[LossOptions]] = GoodLossOptions
    weighs_labels = False

    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        p = logits.sigmoid() if known is None else logits.sigmoid().masked_fill(~known, 0.0)
        return 1 - 2 * (p * targets).sum(dim=1) / (p + targets).sum(dim=1).clamp(min=1e-6)


@pytest.mark.parametrize("component", [GoodLoss, SoftF1])
def test_a_loss_that_keeps_the_rules_passes(component: type[Any]) -> None:
    assert report_of(component).of("failed") == ()


def test_a_loss_that_takes_no_weights_of_labels_is_not_asked_for_them() -> None:
    assert "weighs_labels=False" in not_applicable(SoftF1, "check_loss_label_weights")


VARIANTS = [
    FocalOptions(gamma=0.5, alpha=0.25),
    FocalOptions(gamma=0),
    AsymmetricOptions(gamma_neg=0.5, gamma_pos=0.5, clip=0),
    BalancedOptions(power=1, ceiling=10),
    DistributionBalancedOptions(gamma=2, negative_scale=5, kappa=0.2),
]


@pytest.mark.parametrize("options", VARIANTS, ids=repr)
def test_built_in_losses_keep_the_rules_under_other_options(options: LossOptions) -> None:
    checks = [
        check for check in component_checks("loss", options.component, options=options) if "check_loss" in check.name
    ]
    run_checks(checks).raise_for_failures()


class MeanOfTheBatch(GoodLoss):
    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        return super().rows(logits, targets, known).mean()


class NothingKnownCosts(GoodLoss):
    def forward(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        return super().forward(logits, targets, known) + 1


class SixteenBits(GoodLoss):
    def forward(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        targets = targets.to(logits.dtype)
        return self.rows(logits, targets if known is None else targets.masked_fill(~known, 0.0), known)


class Product(GoodLoss):
    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        cells = self.cells(logits, targets)
        cells = cells if known is None else cells.masked_fill(~known, 0.0)
        return cells @ torch.full((logits.shape[1],), 1 / 3)


class Float64Lost(GoodLoss):
    def forward(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        return super().forward(logits.float(), targets, known)


class Decisions(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ((logits > 0) != (targets > 0)).float()


class NoGradientForPositives(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().cells(torch.where(targets.any(dim=1, keepdim=True), logits.detach(), logits), targets)


class OverTheBatch(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        cells = super().cells(logits, targets)
        return cells / cells.mean()


class NoMask(SoftF1):
    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        return super().rows(logits, targets, None)


class StraightThrough(GoodLoss):
    """The same figure, and a gradient for every cell."""

    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        return super().rows(logits, targets, known) + (logits - logits.detach()).sum(dim=1)


class LogarithmOfSigmoid(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        return -((logits * (2 * targets - 1)).sigmoid().log())


class Negated(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        return -super().cells(logits, targets)


class PositivesNegated(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().cells(logits, targets) * (1 - 1.1 * targets)


class WeightsIgnored(SoftF1):
    weighs_labels = True


class WeightsEverywhere(GoodLoss):
    def rows(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> Tensor:
        weights = 1.0 if self.label_weights is None else self.label_weights
        return (self.cells(logits, targets) * weights).mean(dim=1)


class HasWeights(GoodLoss):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.margin = nn.Parameter(torch.ones(1))


class TensorAside(GoodLoss):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.margin = torch.ones(1)


class NeedsTargets(GoodLoss):
    @classmethod
    def from_statistics(cls, options: Any, statistics: LabelStatistics, label_weights: Tensor | None) -> Any:
        assert len(statistics.names) >= 1
        statistics.targets.indicator.sum()  # type: ignore[union-attr]
        return cls(options, label_weights)


class DividesByCounts(GoodLoss):
    @classmethod
    def from_statistics(cls, options: Any, statistics: LabelStatistics, label_weights: Tensor | None) -> Any:
        weights = 1 / torch.from_numpy(statistics.positives).float()
        return cls(options, weights if label_weights is None else weights * label_weights)


class Climbing(GoodLoss):
    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        cells = super().cells(logits, targets)
        return 2 * cells.detach() - cells


BROKEN = [
    (MeanOfTheBatch, "check_loss_values"),
    (NothingKnownCosts, "check_loss_values"),
    (SixteenBits, "check_loss_precision"),
    (Product, "check_loss_precision"),
    (Float64Lost, "check_loss_precision"),
    (Decisions, "check_loss_gradients"),
    (NoGradientForPositives, "check_loss_gradients"),
    (OverTheBatch, "check_loss_batch_changes_nothing"),
    (NoMask, "check_loss_unknown_cells"),
    (StraightThrough, "check_loss_unknown_cells"),
    (LogarithmOfSigmoid, "check_loss_extreme_logits"),
    (Negated, "check_loss_prefers_right_answers"),
    (PositivesNegated, "check_loss_prefers_right_answers"),
    (WeightsIgnored, "check_loss_label_weights"),
    (WeightsEverywhere, "check_loss_label_weights"),
    (HasWeights, "check_loss_follows_from_counts"),
    (TensorAside, "check_loss_follows_from_counts"),
    (NeedsTargets, "check_loss_follows_from_counts"),
    (DividesByCounts, "check_loss_follows_from_counts"),
    (Climbing, "check_fit"),
]


@pytest.mark.parametrize(("component", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_loss_fails_the_check_of_its_fault(component: type[Any], check: str) -> None:
    assert failures(component, check) == {check}


def test_every_check_of_losses_is_seen_to_fail() -> None:
    assert checks_of_kind("loss") <= {check for _, check in BROKEN}


def test_a_failure_says_what_to_change() -> None:
    assert "F.softplus and F.logsigmoid" in str(report_of(LogarithmOfSigmoid, "check_loss_extreme_logits"))


def test_weights_for_a_loss_that_takes_none_are_refused() -> None:
    counts = LabelStatistics(("a", "b"), positives=np.array([3, 4]), known=np.array([9, 9]))
    with use_manager(PluginManager(entry_points=[], environ={})):
        register_loss(SoftF1, "local:good-loss")
        with pytest.raises(OptionsError, match=r"'local:good-loss' takes no weights of labels.*\{'a': 3.0\}"):
            make_loss("local:good-loss", counts, label_weights={"a": 3.0})


def test_a_sample_without_known_cells_costs_nothing_whatever_the_loss() -> None:
    logits, targets = torch.zeros(2, 2), torch.ones(2, 2)
    known = torch.tensor([[True, False], [False, False]])
    losses = SoftF1()(logits, targets, known)
    assert losses[0] > 0
    assert losses[1] == 0
