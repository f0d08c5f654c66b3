"""Chains of the built-in strategies that adapt weights and put modules between layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from chain_kit import chained
from strategy_kit import disturb, load, same, states, weights

from mlclf import AdapterOptions, BitfitOptions, Ia3Options, LoraOptions
from mlclf.exceptions import IncompatibleComponentsError

CHAINS: dict[str, tuple[Any, ...]] = {
    "lora-adapter": (LoraOptions(r=2), AdapterOptions(kind="houlsby")),
    "dora-parallel": (LoraOptions(r=2, use_dora=True), AdapterOptions(kind="parallel")),
    "ia3-adapter": (Ia3Options(), AdapterOptions(kind="parallel")),
    "lora-ia3": (LoraOptions(r=2), Ia3Options()),
    "bitfit-lora": (BitfitOptions(), LoraOptions(r=2)),
    "bitfit-lora-ia3-adapter": (BitfitOptions(), LoraOptions(r=2), Ia3Options(), AdapterOptions()),
}
every_chain = pytest.mark.parametrize("parts", CHAINS.values(), ids=CHAINS)


@every_chain
def test_saved_tensors_make_a_fresh_backbone_equal(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    torch.testing.assert_close(states(backbone), states(load()), rtol=1e-5, atol=1e-5)
    disturb(backbone)
    saved = {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    fresh, again = chained(*parts, seed=7)
    again.load_state(fresh, saved)
    assert torch.equal(states(fresh), states(backbone))


@pytest.mark.parametrize(("first", "second"), [("ia3", "lora"), ("adapter", "lora"), ("adapter", "ia3")])
def test_what_would_meet_the_modules_of_another_goes_first(first: str, second: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=rf"strategy=\['{second}', '{first}'\]"):
        chained(first, second)


@every_chain
def test_what_can_merge_is_merged_into_plain_weights(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    disturb(backbone)
    before = states(backbone)
    if strategy.capabilities.merge == "no":
        strategy.merge_partially(backbone)
    else:
        strategy.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-4, atol=1e-5)
    assert not [name for name in weights(backbone) if "lora" in name or "ia3" in name]
    assert any(".adapter." in name for name in weights(backbone)) == any(
        isinstance(part, AdapterOptions) for part in parts
    )


@every_chain
def test_a_chain_can_be_taken_out_unless_a_part_trains_the_loaded_weights(parts: Any) -> None:
    backbone, strategy = chained(*parts)
    assert strategy.capabilities.detachable == (not isinstance(parts[0], BitfitOptions))
    if strategy.capabilities.detachable:
        disturb(backbone)
        strategy.detach(backbone)
        assert same(weights(backbone), weights(load()))
