"""Each rule of the conformance kit is seen to be broken where it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mlclf.interfaces import BackboneSource, LearningRates, LogitsHead, Strategy, StrategyCapabilities
from mlclf.losses import BceLoss
from mlclf.options import Options
from mlclf.plugins import ComponentSpec, PluginManager, register_backbone, register_head, register_strategy, use_manager
from mlclf.testing import ConformanceReport, TinyBackbone, TinyOptions, component_checks, run_checks

QUICK = {"check_onnx_parity"}


class GoodOptions(Options):
    component: ClassVar[str] = "local:good"
    scale: float = 1.0


class GoodHead(LogitsHead):
    """Mean of the token states, with a layer over it."""

    Options: ClassVar[type[Options]] = GoodOptions

    def bind(self, backbone: Any, labels: Any) -> None:
        self.linear = nn.Linear(backbone.hidden_size, labels.n_labels)
        self.loss = BceLoss()

    def features_to_logits(self, output: Any) -> Tensor:
        return self.linear(output.pooled) * self.options.scale


class GoodStrategy(Strategy):
    """Train everything."""

    Options: ClassVar[type[Options]] = GoodOptions
    learning_rates = LearningRates(backbone=1e-3, head=1e-2)

    def adapt(self, backbone: Any) -> None:
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = name not in backbone.unused_parameters()


@pytest.fixture(autouse=True)
def manager() -> Iterator[PluginManager]:
    with use_manager(PluginManager(entry_points=[], environ={})) as made:
        yield made


def report_of(component: type[Any], *only: str) -> ConformanceReport:
    """Register a class under the name of its options, and check it."""
    kinds = {LogitsHead: ("head", register_head), Strategy: ("strategy", register_strategy)}
    base = next((kind for kind in kinds if issubclass(component, kind)), None)
    kind, register = kinds[base] if base else ("backbone", register_backbone)
    register(component, component.Options.component)
    checks = [c for c in component_checks(kind, component.Options.component) if c.name not in QUICK]
    return run_checks([check for check in checks if not only or check.name in only])


def failures(component: type[Any], *only: str) -> set[str]:
    return {result.id.partition("[")[0] for result in report_of(component, *only).of("failed")}


@pytest.mark.parametrize("component", [GoodHead, GoodStrategy, TinyBackbone])
def test_a_component_that_keeps_the_rules_passes(component: type[Any]) -> None:
    assert failures(component) == set()


class WrongShape(GoodHead):
    def probabilities(self, backbone: Any, batch: Any) -> Tensor:
        return super().probabilities(backbone, batch).squeeze()


class NoSigmoid(GoodHead):
    def probabilities(self, backbone: Any, batch: Any) -> Tensor:
        return 5 * self.logits(backbone, batch)


class Doubles(GoodHead):
    def probabilities(self, backbone: Any, batch: Any) -> Tensor:
        return super().probabilities(backbone, batch).double()


class NotANumber(GoodHead):
    def features_to_logits(self, output: Any) -> Tensor:
        return torch.log(-super().features_to_logits(output).abs())


class Blind(GoodHead):
    def features_to_logits(self, output: Any) -> Tensor:
        return super().features_to_logits(output) * 0 + self.linear.bias


class DropoutAlways(GoodHead):
    def features_to_logits(self, output: Any) -> Tensor:
        return self.linear(nn.functional.dropout(output.pooled, 0.5))


class ReadsPadding(GoodHead):
    def features_to_logits(self, output: Any) -> Tensor:
        return self.linear(output.tokens.mean(dim=1))


class ReadsNeighbours(GoodHead):
    def features_to_logits(self, output: Any) -> Tensor:
        return self.linear(output.pooled - output.pooled.mean(dim=0) / 2)


class TensorAside(GoodHead):
    def bind(self, backbone: Any, labels: Any) -> None:
        super().bind(backbone, labels)
        self.shift = torch.ones(labels.n_labels)

    def features_to_logits(self, output: Any) -> Tensor:
        return super().features_to_logits(output) + self.shift


class Detached(GoodHead):
    def features_to_logits(self, output: Any) -> Tensor:
        return nn.functional.linear(output.pooled, self.linear.weight, self.linear.bias.detach())


class LossOfEverything(GoodHead):
    def losses(self, backbone: Any, batch: Any) -> Tensor:
        return self.loss(self.logits(backbone, batch), batch.targets, None)


class Climbing(GoodHead):
    def losses(self, backbone: Any, batch: Any) -> Tensor:
        losses = super().losses(backbone, batch)
        return 2 * losses.detach() - losses


class GlobalSeed(GoodHead):
    def bind(self, backbone: Any, labels: Any) -> None:
        super().bind(backbone, labels)
        import numpy as np

        np.random.seed(0)  # noqa: NPY002


class StartsElsewhere(GoodHead):
    count = 0

    def bind(self, backbone: Any, labels: Any) -> None:
        super().bind(backbone, labels)
        type(self).count += 1
        with torch.no_grad():
            self.linear.weight.add_(type(self).count)


class NotPickled(GoodHead):
    def bind(self, backbone: Any, labels: Any) -> None:
        super().bind(backbone, labels)
        self.linear.register_forward_hook(lambda *_: None)


class Forgets(GoodHead):
    """Something that is learned, but not by gradients, and not saved."""

    def bind(self, backbone: Any, labels: Any) -> None:
        super().bind(backbone, labels)
        self.seen = 0.0

    def losses(self, backbone: Any, batch: Any) -> Tensor:
        self.seen += 1.0
        return super().losses(backbone, batch)

    def features_to_logits(self, output: Any) -> Tensor:
        return super().features_to_logits(output) + self.seen / 100


BROKEN_HEADS = [
    (WrongShape, "check_shapes"),
    (NoSigmoid, "check_values"),
    (Doubles, "check_values"),
    (NotANumber, "check_values"),
    (Blind, "check_reads_the_text"),
    (DropoutAlways, "check_evaluation_is_deterministic"),
    (ReadsPadding, "check_padding_changes_nothing"),
    (ReadsNeighbours, "check_batch_changes_nothing"),
    (TensorAside, "check_device"),
    (Detached, "check_gradients"),
    (LossOfEverything, "check_unknown_cells_are_left_out"),
    (Climbing, "check_fit"),
    (GlobalSeed, "check_fit_is_repeatable"),
    (StartsElsewhere, "check_fit_is_repeatable"),
    (NotPickled, "check_estimator_can_be_pickled"),
    (Forgets, "check_save_and_load"),
]


@pytest.mark.parametrize(("head", "check"), BROKEN_HEADS, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_head_fails_the_check_of_its_fault(head: type[Any], check: str) -> None:
    assert failures(head, check) == {check}


class Thawed(Options):
    component: ClassVar[str] = "local:thawed"
    model_config: ClassVar[Any] = {"frozen": False, "extra": "allow"}
    scale: float = 1.0


class Needy(Options):
    component: ClassVar[str] = "local:needy"
    scale: float


class Lossy(Options):
    component: ClassVar[str] = "local:lossy"
    scale: float = 1.0
    sizes: Any = (1, 2)


BROKEN_OPTIONS = [
    (Thawed, {"check_options_are_frozen", "check_options_refuse_unknown_names"}),
    (Needy, {"check_options_have_defaults"}),
    (Lossy, {"check_options_as_json"}),
]


@pytest.mark.parametrize(("options", "checks"), BROKEN_OPTIONS)
def test_broken_options_fail_the_checks_of_their_fault(options: type[Options], checks: set[str]) -> None:
    head = type("Head", (GoodHead,), {"Options": options, "__module__": __name__})
    assert failures(head, *checks) == checks


class Twice(GoodStrategy):
    def parameter_groups(self, backbone: Any, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        return 2 * super().parameter_groups(backbone, learning_rate, weight_decay)


class Forgetful(GoodStrategy):
    def state(self, backbone: Any) -> dict[str, Tensor]:
        return dict(list(super().state(backbone).items())[1:])


class Careless(GoodStrategy):
    def load_state(self, backbone: Any, state: dict[str, Tensor]) -> None:
        own = self.state(backbone)
        for name in own:
            own[name].copy_(state[name])


class MergesNothing(GoodStrategy):
    capabilities = StrategyCapabilities(merge="no")

    def merge(self, backbone: Any) -> None: ...


class MergesWrongly(GoodStrategy):
    def merge(self, backbone: Any) -> None:
        with torch.no_grad():
            next(iter(backbone.model.parameters())).mul_(2)


class DetachesNothing(GoodStrategy):
    capabilities = StrategyCapabilities(detachable=True)

    def detach(self, backbone: Any) -> None: ...


class NoRates(GoodStrategy):
    learning_rates = None  # type: ignore[assignment]


BROKEN_STRATEGIES = [
    (Twice, "check_learning_rates"),
    (NoRates, "check_learning_rates"),
    (Forgetful, "check_state"),
    (Careless, "check_state"),
    (MergesNothing, "check_merge"),
    (MergesWrongly, "check_merge"),
    (DetachesNothing, "check_detach"),
]


@pytest.mark.parametrize(("strategy", "check"), BROKEN_STRATEGIES, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_strategy_fails_the_check_of_its_fault(strategy: type[Any], check: str) -> None:
    assert failures(strategy, check) == {check}


class BackboneOptions(TinyOptions):
    component: ClassVar[str] = "local:broken"


class Unchecked(TinyBackbone):
    Options: ClassVar[type[Options]] = BackboneOptions

    def source(self) -> BackboneSource:
        return BackboneSource(kind="package", name="acme")


class Endless(TinyBackbone):
    """Forty positions, and a tokenizer that does not know it."""

    Options: ClassVar[type[Options]] = BackboneOptions

    def token_states(self, batch: Any) -> Tensor:
        if batch.input_ids.shape[1] > 40:
            raise RuntimeError("position out of range")
        return super().token_states(batch)


@pytest.mark.parametrize(("backbone", "check"), [(Unchecked, "check_source"), (Endless, "check_long_texts")])
def test_a_broken_backbone_fails_the_check_of_its_fault(backbone: type[Any], check: str) -> None:
    assert failures(backbone, check) == {check}


def test_a_record_that_differs_from_its_class_is_found(manager: PluginManager) -> None:
    register_head(GoodHead, "local:good")
    _, component = manager.local._entries["head"]["local:good"]
    spec = ComponentSpec(name="local:good", target="a:B", options="a:C", summary="x", exportable=False)
    manager.local._entries["head"]["local:good"] = (spec, component)
    report = run_checks([c for c in component_checks("head", "local:good") if c.name == "check_declaration"])
    assert "exportable=False, GoodHead declares True" in str(report)


def test_a_component_that_goes_with_nothing_says_what_was_tried() -> None:
    class Nowhere(GoodStrategy):
        capabilities = StrategyCapabilities(families=frozenset({"masked-lm"}))

    report = report_of(Nowhere, "check_partners")
    assert "goes with none of the tiny models" in str(report)
    assert "masked-lm" in str(report)
