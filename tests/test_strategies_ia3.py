"""Strategy ``ia3``: what is scaled, that nothing pulls factors to zero, and that they can be taken out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from strategy_kit import N_LAYERS, adapted, batch_of, disturb, load, same, states, weights
from torch import nn
from toy import toy_classifier, toy_rows

from mlclf import Ia3Options, LoraOptions
from mlclf.exceptions import IncompatibleComponentsError, NotMergeableError, OptionsError
from mlclf.strategies.ia3 import Ia3Strategy
from mlclf.strategies.ia3_layers import scaled_layers
from mlclf.strategies.ia3_targets import find_ia3_targets
from mlclf.strategies.lora import LoraStrategy


@pytest.mark.parametrize(
    ("architecture", "attention", "feedforward"),
    [
        ("bert", ["attention.self.key", "attention.self.value"], "output.dense"),
        ("distilbert", ["attention.k_lin", "attention.v_lin"], "ffn.lin2"),
        ("deberta-v2", ["attention.self.key_proj", "attention.self.value_proj"], "output.dense"),
        ("modernbert", ["attn.Wqkv"], "mlp.Wo"),
        ("mpnet", ["attention.attn.k", "attention.attn.v"], "output.dense"),
        ("qwen3", ["self_attn.k_proj", "self_attn.v_proj"], "mlp.down_proj"),
        ("phi3", ["self_attn.qkv_proj"], "mlp.down_proj"),
        ("gpt2", ["attn.c_attn"], "mlp.c_proj"),
    ],
)
def test_keys_values_and_inner_activations_are_scaled(
    architecture: str, attention: list[str], feedforward: str
) -> None:
    found = find_ia3_targets(load(architecture), 1, None, None)
    prefix = f".{N_LAYERS - 1}."
    assert [name.split(prefix, 1)[1] for name in found.attention] == attention
    assert [name.split(prefix, 1)[1] for name in found.feedforward] == [feedforward]


def test_factors_stand_at_outputs_of_attention_and_at_inputs_of_the_feedforward_network() -> None:
    layers = scaled_layers(adapted(Ia3Options(layers=1))[0].model)
    shapes = {name.split(".2.", 1)[1]: tuple(layer.ia3_l["default"].shape) for name, layer in layers.items()}
    assert shapes == {"attention.self.key": (32, 1), "attention.self.value": (32, 1), "output.dense": (1, 64)}


def test_targets_by_the_ends_of_names() -> None:
    options = Ia3Options(layers=1, attention=("value",), feedforward=("attention.output.dense",))
    backbone, _ = adapted(options)
    assert [name.split(".2.", 1)[1] for name in scaled_layers(backbone.model)] == [
        "attention.self.value",
        "attention.output.dense",
    ]


def test_a_layer_that_is_not_there_is_refused_with_a_proposal() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"Ia3Options\(attention=\('keys',\)\).*ends in 'keys'.*key"):
        adapted(Ia3Options(attention=("keys",)))
    with pytest.raises(IncompatibleComponentsError, match=r"Ia3Options\(layers=7\) does not fit the 3 layers"):
        adapted(Ia3Options(layers=7))


def test_keys_and_values_of_other_names_are_refused_and_the_error_names_the_way_out() -> None:
    backbone = load()
    for layer in backbone.layers():
        attention: Any = layer.get_submodule("attention.self")
        for name in ("key", "value"):
            attention._modules[f"{name}s"] = nn.Sequential(attention._modules.pop(name))
            attention.__dict__[name] = attention._modules[f"{name}s"]
    with pytest.raises(IncompatibleComponentsError, match=r"keys and values cannot be told.*Ia3Options\(attention="):
        Ia3Strategy(Ia3Options()).check(backbone)
    Ia3Strategy(Ia3Options(attention=("keys.0", "values.0"))).check(backbone)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"layers": 0}, "at least 1"), ({"attention": ()}, "at least one"), ({"feedforward": ("",)}, "no empty one")],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Ia3Options(**values)


def test_factors_have_no_weight_decay() -> None:
    backbone, strategy = adapted(Ia3Options())
    (group,) = strategy.parameter_groups(backbone, 1e-2, 0.1)
    assert (group["lr"], group["weight_decay"]) == (1e-2, 0.0)


def test_layers_of_albert_share_their_factors() -> None:
    backbone, strategy = adapted(Ia3Options(), "albert")
    disturb(backbone)
    before = states(backbone)
    strategy.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)


def test_damaged_factors_are_not_merged_and_nothing_is_changed() -> None:
    backbone, strategy = adapted(Ia3Options())
    next(p for p in backbone.model.parameters() if p.requires_grad).data.fill_(float("inf"))
    before = list(weights(backbone))
    with pytest.raises(NotMergeableError, match=r"ia3_l.*not finite"):
        strategy.merge(backbone)
    assert list(weights(backbone)) == before


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "gpt2"])
def test_factors_around_low_rank_updates(architecture: str) -> None:
    backbone = load(architecture)
    lora, ia3 = LoraStrategy(LoraOptions(r=2)), Ia3Strategy(Ia3Options())
    lora.adapt(backbone)
    learning = [p for p in backbone.model.parameters() if p.requires_grad]
    ia3.check(backbone)
    ia3.adapt(backbone)
    for parameter in learning:
        parameter.requires_grad = True
    disturb(backbone)
    backbone.model.eval()
    output = backbone(batch_of(backbone)).pooled
    (output * torch.randn_like(output)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in backbone.model.parameters() if p.requires_grad)
    before = states(backbone)
    with pytest.raises(NotMergeableError, match="must be merged first"):
        ia3.merge(backbone)
    lora.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    ia3.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    assert list(weights(backbone)) == list(weights(load(architecture)))


def test_factors_and_updates_can_be_taken_out_in_turn() -> None:
    backbone = load()
    lora, ia3 = LoraStrategy(LoraOptions(r=2)), Ia3Strategy(Ia3Options())
    lora.adapt(backbone)
    ia3.adapt(backbone)
    disturb(backbone)
    ia3.detach(backbone)
    lora.detach(backbone)
    assert same(weights(backbone), weights(load()))


def test_updates_of_layers_that_have_factors_are_refused() -> None:
    backbone, _ = adapted(Ia3Options(layers=1))
    with pytest.raises(IncompatibleComponentsError, match=r"key\.base_layer' and 2 others.*Put 'lora' before it"):
        LoraStrategy(LoraOptions(r=2)).adapt(backbone)


def test_a_saved_model_holds_the_factors_alone(tiny_bert: Path, tmp_path: Path) -> None:
    texts, labels = toy_rows(48)
    toy_classifier(tiny_bert, "ia3", epochs=1).fit(texts, labels).save(tmp_path / "model")
    saved = (tmp_path / "model" / "strategy.safetensors").stat().st_size
    assert saved < 0.1 * (tiny_bert / "model.safetensors").stat().st_size
