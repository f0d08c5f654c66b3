"""Strategies ``full``, ``partial`` and ``features``: layer-wise rates, and backbones that they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from strategy_kit import N_LAYERS, adapted, load, strategy_of
from torch import nn

from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.interfaces import Strategy
from mlclf.strategies.features import FeaturesOptions
from mlclf.strategies.full import FullOptions
from mlclf.strategies.head_only import HeadOnlyOptions
from mlclf.strategies.lora import LoraOptions
from mlclf.strategies.partial import PartialOptions


def rate_by_name(options: FullOptions, architecture: str = "bert") -> dict[str, float]:
    """Return the learning rate of each weight, 1 being the peak."""
    backbone, strategy = adapted(options, architecture)
    rates = {id(p): g["lr"] for g in strategy.parameter_groups(backbone, 1.0, 0.01) for p in g["params"]}
    return {name: rates[id(p)] for name, p in backbone.model.named_parameters() if p.requires_grad}


def test_each_layer_learns_more_slowly_than_the_one_above_it() -> None:
    rates = rate_by_name(FullOptions(layer_decay=0.5))
    assert {rate for name, rate in rates.items() if name.startswith("embeddings.")} == {0.5**N_LAYERS}
    for layer in range(N_LAYERS):
        of_layer = {rate for name, rate in rates.items() if name.startswith(f"encoder.layer.{layer}.")}
        assert of_layer == {0.5 ** (N_LAYERS - 1 - layer)}


def test_a_norm_after_the_last_layer_learns_at_the_peak_rate() -> None:
    assert rate_by_name(FullOptions(layer_decay=0.5), "modernbert")["final_norm.weight"] == 1.0


def test_relative_positions_that_all_layers_share_learn_as_the_lowest_layer() -> None:
    rates = rate_by_name(FullOptions(layer_decay=0.5), "deberta-v2")
    assert rates["encoder.rel_embeddings.weight"] == 0.5 ** (N_LAYERS - 1)


def test_without_decay_all_layers_have_one_rate() -> None:
    assert set(rate_by_name(FullOptions()).values()) == {1.0}


@pytest.mark.parametrize("options", [FullOptions(), FullOptions(layer_decay=0.9)])
def test_embedding_tables_are_not_decayed_so_that_unseen_tokens_keep_their_vectors(options: FullOptions) -> None:
    backbone, strategy = adapted(options)
    tables = {id(m.weight) for m in backbone.model.modules() if isinstance(m, nn.Embedding)}
    groups = strategy.parameter_groups(backbone, 1e-3, 0.1)
    assert {g["weight_decay"] for g in groups for p in g["params"] if id(p) in tables} == {0.0}
    assert {g["weight_decay"] for g in groups for p in g["params"] if p.ndim == 2 and id(p) not in tables} == {0.1}


def test_full_leaves_unused_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, strategy = load(), strategy_of(FullOptions())
    unused = "encoder.layer.0.output.dense.bias"
    monkeypatch.setattr(backbone, "unused_parameters", lambda: {unused})
    strategy.adapt(backbone)
    assert [name for name, p in backbone.model.named_parameters() if not p.requires_grad] == [unused]


def test_layer_decay_of_one_layer_that_is_shared_is_refused() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"layer_decay=0\.9\) needs a stack of layers.*ALBERT"):
        strategy_of(FullOptions(layer_decay=0.9)).check(load("albert"))


def test_full_trains_albert() -> None:
    backbone, strategy = adapted(FullOptions(), "albert")
    assert len(strategy.parameter_groups(backbone, 1.0, 0.01)) == 2


def test_partial_refuses_albert() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"share weights \(ALBERT\)"):
        strategy_of(PartialOptions()).check(load("albert"))


def test_partial_refuses_more_layers_than_there_are() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"last_layers=9\) is more than the 3 layers.*Use 1 to 3"):
        strategy_of(PartialOptions(last_layers=9)).check(load())


@pytest.mark.parametrize("layers", [0, -1])
def test_partial_needs_a_layer(layers: int) -> None:
    with pytest.raises(OptionsError, match=rf"PartialOptions\(last_layers={layers}\).*greater than or equal to 1"):
        PartialOptions(last_layers=layers)


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_layer_decay_is_a_share(decay: float) -> None:
    with pytest.raises(OptionsError, match=r"FullOptions\(layer_decay="):
        FullOptions(layer_decay=decay)


def test_features_refuse_a_pooling_that_learns_and_head_only_takes_it() -> None:
    backbone = load(pooling="attention")
    with pytest.raises(IncompatibleComponentsError, match=r"pooling has weights that learn.*strategy='head-only'"):
        strategy_of(FeaturesOptions()).check(backbone)
    strategy = strategy_of(HeadOnlyOptions())
    strategy.check(backbone)
    strategy.adapt(backbone)
    assert all(p.requires_grad for p in backbone.pooling.parameters())


@pytest.mark.parametrize(
    "options", [FullOptions(), PartialOptions(), HeadOnlyOptions(), FeaturesOptions(), LoraOptions()]
)
def test_checking_changes_nothing(options: FullOptions) -> None:
    backbone = load()
    before = [(name, p.requires_grad) for name, p in backbone.model.named_parameters()]
    strategy: Strategy = strategy_of(options)
    strategy.check(backbone)
    assert [(name, p.requires_grad) for name, p in backbone.model.named_parameters()] == before


def test_a_step_of_partial_moves_only_the_last_layers() -> None:
    backbone, strategy = adapted(PartialOptions(last_layers=1))
    before = {name: p.detach().clone() for name, p in backbone.model.named_parameters()}
    optimizer = torch.optim.AdamW(strategy.parameter_groups(backbone, 1e-2, 0.01))
    batch = backbone.collate(backbone.encode(["a cat"]), np.arange(1))
    backbone(batch).pooled.square().sum().backward()
    optimizer.step()
    moved = {name.split(".")[2] for name, p in backbone.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {str(N_LAYERS - 1)}
