"""Chains: several strategies on one backbone, each with its own parameters, rates and saved tensors."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest
import torch
from chain_kit import Scale, ScaleOptions, Shift, ShiftOptions, chained, register
from strategy_kit import N_LAYERS, batch_of, disturb, load, same, states, weights

from mlclf import LoraOptions, register_strategy
from mlclf.chaining.rules import combined
from mlclf.chaining.strategy import ChainStrategy, resolve_strategy
from mlclf.exceptions import (
    BundleDamagedError,
    IncompatibleComponentsError,
    NotMergeableError,
    OptionsError,
)
from mlclf.interfaces import LoadRequest, Strategy, StrategyCapabilities

LORA = LoraOptions(r=4)
WEIGHTS = (LORA, "local:scale")
MIXED = (LORA, "local:shift")
PISSA = (LoraOptions(r=4, init="pissa", layers=1), "local:scale", "local:shift")
every_chain = pytest.mark.parametrize("parts", [WEIGHTS, MIXED, PISSA], ids=["weights", "mixed", "three"])


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


# What a chain promises as a strategy.


@every_chain
def test_all_that_the_parts_train_learns_and_nothing_else(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    learning = {name for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert learning == set().union(*strategy.owned)
    assert all(strategy.owned)
    assert sum(map(len, strategy.owned)) == len(learning)
    alone = [chained_alone(part) for part in parts]
    assert [len(own) for own in strategy.owned] == alone


def chained_alone(part: Any) -> int:
    """Return how many tensors a strategy trains where it is alone."""
    kind, options = resolve_strategy(part)
    backbone = load()
    kind(options).adapt(backbone)
    return sum(p.requires_grad for p in backbone.model.parameters())


@every_chain
def test_everything_that_learns_gets_a_gradient_and_changes_the_output(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    torch.testing.assert_close(states(backbone), states(load()), rtol=1e-5, atol=1e-5)
    before = states(backbone)
    disturb(backbone)
    assert (states(backbone) - before).abs().max() > 1e-3
    strategy.set_train_mode(backbone)
    output = backbone(batch_of(backbone)).pooled
    (output * torch.randn_like(output)).sum().backward()
    assert not [n for n, p in backbone.model.named_parameters() if p.requires_grad and not p.grad.any()]


@every_chain
def test_saved_tensors_make_a_fresh_backbone_equal_bit_for_bit(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    disturb(backbone)
    saved = {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    fresh, again = chained(*parts, seed=7)
    again.load_state(fresh, saved)
    assert torch.equal(states(fresh), states(backbone))
    assert same(weights(fresh), weights(backbone))


def test_saved_tensors_of_another_model_are_refused() -> None:
    backbone, strategy = chained(*MIXED)
    saved = strategy.state(backbone)
    name = next(iter(saved))
    with pytest.raises(BundleDamagedError, match=r"'lora' do not fit: 1 missing"):
        strategy.load_state(backbone, {n: t for n, t in saved.items() if n != name})
    with pytest.raises(BundleDamagedError, match=r"\('lora', 'local:shift'\) do not fit: 1 unknown \['extra'\]"):
        strategy.load_state(backbone, {**saved, "extra": torch.zeros(1)})


def test_a_chain_of_methods_on_weights_merges_into_plain_weights() -> None:
    backbone, strategy = chained(*WEIGHTS)
    disturb(backbone)
    before = states(backbone)
    strategy.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    assert list(weights(backbone)) == list(weights(load()))


@pytest.mark.parametrize("parts", [MIXED, PISSA], ids=["mixed", "three"])
def test_a_partial_merge_keeps_what_no_weights_express(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    disturb(backbone)
    before, random_state = states(backbone), torch.get_rng_state()
    with pytest.raises(NotMergeableError, match="'chain' cannot be merged"):
        strategy.merge(backbone)
    strategy.merge_partially(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    assert not [name for name in weights(backbone) if "lora" in name]
    assert len([name for name in weights(backbone) if name.endswith(".shift")]) == N_LAYERS
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_can_neither_merge_nor_be_taken_out_keeps_the_rest_from_merging() -> None:
    class Fixed(Shift):
        capabilities: ClassVar[StrategyCapabilities] = replace(Shift.capabilities, detachable=False)

    register_strategy(Fixed, name="local:shift")
    backbone, strategy = chained(*MIXED)
    disturb(backbone)
    before = weights(backbone)
    strategy.merge_partially(backbone)
    assert same(weights(backbone), before)


def test_detaching_gives_back_what_was_loaded_bit_for_bit() -> None:
    backbone, strategy = chained(LoraOptions(r=4, init="pissa"), "local:shift")
    disturb(backbone)
    strategy.detach(backbone)
    assert same(weights(backbone), weights(load()))
    assert torch.equal(states(backbone), states(load()))
    backbone, strategy = chained(*WEIGHTS)  # one part trains the loaded weights themselves
    with pytest.raises(IncompatibleComponentsError, match="trains the loaded weights themselves"):
        strategy.detach(backbone)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_chain_knows_its_parameters(copied: Any) -> None:
    backbone, strategy = chained(*PISSA)
    disturb(backbone)
    twin, again = copied((backbone, strategy))
    assert same(again.state(twin), strategy.state(backbone))
    disturb(twin)
    assert torch.equal(states(backbone), states(copied((backbone, strategy))[0]))


def test_the_least_number_of_constant_layers_counts_and_dropout_is_on_where_a_part_wants_it() -> None:
    backbone, strategy = chained(LoraOptions(r=4, layers=1, backbone_dropout=False), "local:scale")
    assert strategy.constant_layers(backbone) == 0
    strategy.set_train_mode(backbone)
    assert all(module.training for module in backbone.model.modules())
    backbone, strategy = chained(LoraOptions(r=4, layers=1), "local:upper")
    assert strategy.constant_layers(backbone) == N_LAYERS - 2
    strategy.set_train_mode(backbone)
    on = {n for n, m in backbone.model.named_modules() if m.training and n.endswith("output.dropout")}
    assert {name.split(".")[2] for name in on} == {"1", "2"}


class UpperOptions(ScaleOptions):
    """Options of :class:`Upper`."""

    component = "local:upper"


class Upper(Strategy):
    """Trains the norms of the last two layers."""

    Options = UpperOptions
    capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities(chains=True, needs_layers=True)
    learning_rates = Scale.learning_rates

    def adapt(self, backbone: Any) -> None:
        self.freeze(backbone)
        for layer in backbone.layers()[-2:]:
            layer.output.LayerNorm.weight.requires_grad = True

    def constant_layers(self, backbone: Any) -> int:
        return int(backbone.n_layers - 2)


register_strategy(Upper, name="local:upper")


def test_recomputing_activations_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, strategy = chained(*MIXED)
        disturb(backbone)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        strategy.set_train_mode(backbone)
        for module in backbone.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        backbone(batch_of(backbone)).pooled.square().sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters() if p.grad is not None])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


# Learning rates, penalties, loading.


def rates(strategy: ChainStrategy, backbone: Any, rate: float) -> list[set[float]]:
    """Return the rates of each part's parameters."""
    names = {id(p): name for name, p in backbone.model.named_parameters()}
    found: list[set[float]] = [set() for _ in strategy.parts]
    for group in strategy.parameter_groups(backbone, rate, 0.1):
        for parameter in group["params"]:
            (part,) = [i for i, own in enumerate(strategy.owned) if names[id(parameter)] in own]
            found[part].add(group["lr"])
    return found


def test_each_part_learns_at_its_own_rate_and_keeps_its_ratio_to_the_first() -> None:
    backbone, strategy = chained(*MIXED)
    assert (strategy.learning_rates.backbone, strategy.learning_rates.head) == (1e-3, 5e-3)
    assert rates(strategy, backbone, 1e-3) == [{1e-3}, {1e-2}]
    assert rates(strategy, backbone, 5e-4) == [{5e-4}, {5e-3}]
    backbone, strategy = chained(LoraOptions(r=4, learning_rate=2e-3), ShiftOptions(learning_rate=4e-3))
    assert strategy.learning_rates.backbone == 2e-3
    assert rates(strategy, backbone, 2e-3) == [{2e-3}, {4e-3}]


def test_groups_hold_what_learns_once() -> None:
    backbone, strategy = chained(*PISSA)
    grouped = [id(p) for group in strategy.parameter_groups(backbone, 1e-3, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in backbone.model.parameters() if p.requires_grad)


def test_the_heads_rate_is_that_of_the_part_that_gives_one() -> None:
    assert chained(LORA, ShiftOptions(head_learning_rate=1e-2))[1].learning_rates.head == 1e-2
    with pytest.raises(OptionsError, match=r"different rates of the head: head_learning_rate is \[0.001, 0.01\]"):
        chained(LoraOptions(head_learning_rate=1e-3), ShiftOptions(head_learning_rate=1e-2))


def test_penalties_add_up_and_see_their_own_parameters_only() -> None:
    backbone, strategy = chained(LORA, ScaleOptions(penalty=0.5), "local:shift")
    expected = sum(float(weights(backbone)[name].sum()) for name in strategy.owned[1])
    penalty = strategy.penalty(backbone)
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(0.5 * expected)
    assert penalty.requires_grad
    assert chained(*MIXED)[1].penalty(backbone) is None


def test_positions_of_virtual_tokens_add_up_and_there_is_one_quantisation() -> None:
    class Quantised(Scale):
        capabilities: ClassVar[StrategyCapabilities] = replace(Scale.capabilities, quantised_base=True)

        def load_request(self) -> LoadRequest:
            return LoadRequest(quantization="nf4", reserved_length=3)

    register_strategy(Quantised, name="local:scale")
    _, strategy = chained("local:scale", ShiftOptions(reserved=4))
    assert strategy.load_request() == LoadRequest(quantization="nf4", reserved_length=7)
    with pytest.raises(IncompatibleComponentsError, match="'local:scale' quantises the backbone, and 'lora' cannot"):
        resolve_strategy(["local:scale", "lora"])


def test_every_declaration_of_a_part_counts() -> None:
    plain = StrategyCapabilities(chains=True, detachable=True, quantised_base=True)
    known = {field.name for field in fields(StrategyCapabilities)}
    changes: dict[str, Any] = {
        "families": frozenset({"encoder"}),
        "merge": "lossy",
        "padding": "right",
        "needs_layers": True,
        "gradient_checkpointing": False,
        "quantised_base": False,
        "export": False,
        "changes": "activations",
        "detachable": False,
    }
    assert known == {*changes, "chains", "shares"}, "say in chaining/rules.py what the new field means"
    for name, value in changes.items():
        for parts in ([plain, replace(plain, **{name: value})], [replace(plain, **{name: value}), plain]):
            assert getattr(combined(parts), name) == value
