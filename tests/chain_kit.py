"""Strategies made for the tests of chains, one on weights and one on activations, and how to adapt with a chain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from strategy_kit import load
from torch import Tensor, nn

from mlclf import register_strategy
from mlclf.backbones.bert import BertBackbone
from mlclf.chaining.strategy import ChainStrategy, resolve_strategy
from mlclf.interfaces import Backbone, Batch, LearningRates, LoadRequest, Strategy, StrategyCapabilities
from mlclf.strategies.rates import RateOptions


class ScaleOptions(RateOptions):
    """Options of :class:`Scale`."""

    component = "local:scale"
    penalty: float = 0.0


class Scale(Strategy):
    """Trains the weights of norms, and remembers how many texts it was started from."""

    Options = ScaleOptions
    capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities(chains=True)
    learning_rates: ClassVar[LearningRates] = LearningRates(backbone=2e-3, head=6e-3)
    options: ScaleOptions

    def adapt(self, backbone: Backbone) -> None:
        """Let the norms' weights learn."""
        self.freeze(backbone)
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = name.endswith("LayerNorm.weight")

    def penalty(self, backbone: Backbone) -> Tensor | None:
        """Return a share of the sum of what learns."""
        learning = [p.sum() for p in backbone.model.parameters() if p.requires_grad]
        return self.options.penalty * torch.stack(learning).sum() if self.options.penalty else None


class ShiftOptions(RateOptions):
    """Options of :class:`Shift`."""

    component = "local:shift"
    reserved: int = 0


class _Shifted(nn.Module):
    """A layer whose output is moved by a vector that learns."""

    def __init__(self, inner: nn.Linear, size: int) -> None:
        super().__init__()
        self.inner, self.shift = inner, nn.Parameter(torch.zeros(size))
        self.started: float = 0.0

    def forward(self, states: Tensor) -> Tensor:
        """Return the layer's output, moved."""
        moved: Tensor = self.inner(states) + self.shift
        return moved


class Shift(Strategy):
    """Moves what comes out of the last linear layer of each layer: modules that no plain weights express."""

    Options = ShiftOptions
    capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities(
        merge="no", changes="activations", detachable=True, chains=True, quantised_base=True
    )
    learning_rates: ClassVar[LearningRates] = LearningRates(backbone=1e-2, head=5e-3)
    options: ShiftOptions

    def load_request(self) -> LoadRequest:
        """Reserve positions, as virtual tokens do."""
        return LoadRequest(reserved_length=self.options.reserved)

    def adapt(self, backbone: Backbone) -> None:
        """Put the vectors in."""
        self.freeze(backbone)
        for layer in backbone.layers():
            layer.output.dense = _Shifted(layer.output.dense, backbone.hidden_size)

    def initialise(self, backbone: Backbone, batches: Iterable[Batch]) -> None:
        """Note how many texts there are."""
        n = sum(batch.n_samples for batch in batches)
        for module in _shifted(backbone):
            module.started = n

    def detach(self, backbone: Backbone) -> None:
        """Take the vectors out."""
        for layer in backbone.layers():
            layer.output.dense = layer.output.dense.inner


def _shifted(backbone: Backbone) -> list[_Shifted]:
    return [module for module in backbone.model.modules() if isinstance(module, _Shifted)]


def register() -> None:
    """Make both known to the process."""
    register_strategy(Scale, name="local:scale")
    register_strategy(Shift, name="local:shift")


def chained(*parts: Any, seed: int = 0) -> tuple[BertBackbone, ChainStrategy]:
    """Return a backbone that a chain has adapted."""
    kind, options = resolve_strategy(list(parts))
    backbone, strategy = load(), kind(options)
    assert isinstance(strategy, ChainStrategy)
    torch.manual_seed(seed)
    strategy.check(backbone)
    strategy.adapt(backbone)
    return backbone, strategy
