"""Strategy ``lora``: what is adapted, how updates start, and that they can be taken out again."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from strategy_kit import N_LAYERS, adapted, disturb, folder_of, load, same, states, strategy_of, weights
from torch import nn

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.exceptions import IncompatibleComponentsError, NotMergeableError, OptionsError
from mlclf.interfaces import LoadRequest
from mlclf.strategies.lora import LoraOptions
from mlclf.strategies.lora_layers import adapted as adapted_layers
from mlclf.strategies.lora_targets import find_targets

STARTS = ["default", "gaussian", "orthogonal", "pissa", "olora"]


def endings(architecture: str, targets: Any) -> set[str]:
    """Return the names of adapted layers without the number of their layer."""
    found = find_targets(load(architecture), targets, 1)
    return {name.split(f".{N_LAYERS - 1}.", 1)[1] for name in found}


@pytest.mark.parametrize(
    ("architecture", "attention", "qv"),
    [
        (
            "bert",
            {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"},
            {"attention.self.query", "attention.self.value"},
        ),
        (
            "distilbert",
            {"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"},
            {"attention.q_lin", "attention.v_lin"},
        ),
        (
            "deberta-v2",
            {
                "attention.self.query_proj",
                "attention.self.key_proj",
                "attention.self.value_proj",
                "attention.output.dense",
            },
            {"attention.self.query_proj", "attention.self.value_proj"},
        ),
        ("modernbert", {"attn.Wqkv", "attn.Wo"}, {"attn.Wqkv"}),
        ("mpnet", {"attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"}, None),
    ],
)
def test_targets_by_name(architecture: str, attention: set[str], qv: set[str] | None) -> None:
    assert endings(architecture, "attention") == attention
    assert endings(architecture, "qv") == (qv or {"attention.attn.q", "attention.attn.v"})
    linear = {n for n, m in load(architecture).layers()[-1].named_modules() if isinstance(m, nn.Linear)}
    assert endings(architecture, "all-linear") == linear


def test_targets_by_the_ends_of_names() -> None:
    assert endings("bert", ("query", "attention.output.dense")) == {"attention.self.query", "attention.output.dense"}


def test_an_end_that_no_layer_has_is_refused_with_a_proposal() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"ends in 'qurey'. Did you mean 'query'\?.*There are: .*key"):
        adapted(LoraOptions(targets=("value", "qurey")))


def test_unused_layers_are_not_adapted(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load()
    monkeypatch.setattr(backbone, "unused_parameters", lambda: {"encoder.layer.2.output.dense.weight"})
    assert "encoder.layer.2.output.dense" not in find_targets(backbone, "all-linear", "all")


def test_a_backbone_without_linear_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load()
    monkeypatch.setattr(backbone, "layers", lambda: [nn.Dropout()])
    with pytest.raises(IncompatibleComponentsError, match=r"matches no linear layer of backbone 'bert'. It has: none"):
        strategy_of(LoraOptions()).check(backbone)


def test_albert_gets_updates_of_its_one_shared_layer() -> None:
    backbone, strategy = adapted(LoraOptions(r=2), "albert")
    assert any("albert_layers.0.attention" in name for name in adapted_layers(backbone.model))
    assert strategy.constant_layers(backbone) == 0


@pytest.mark.parametrize(
    ("layers", "adapted_numbers", "constant"),
    [("all", {0, 1, 2}, 0), (1, {2}, 2), (3, {0, 1, 2}, 0), ((2, 1), {1, 2}, 1), ((0,), {0}, 0)],
)
def test_layers_to_adapt(layers: Any, adapted_numbers: set[int], constant: int) -> None:
    backbone, strategy = adapted(LoraOptions(r=2, layers=layers))
    assert {int(name.split(".")[2]) for name in adapted_layers(backbone.model)} == adapted_numbers
    assert strategy.constant_layers(backbone) == constant


@pytest.mark.parametrize("layers", [4, (3,), (0, 7)])
def test_layers_out_of_range_are_refused(layers: Any) -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"does not fit the 3 layers.*a number from 1 to 3"):
        adapted(LoraOptions(layers=layers))


def test_choosing_layers_of_albert_is_refused() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"layers=1\) needs a stack of layers.*Use layers='all'"):
        adapted(LoraOptions(layers=1), "albert")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": 0}, r"LoraOptions\(r=0\).*greater than or equal to 1"),
        ({"alpha": -1}, r"alpha=-1\).*greater than 0"),
        ({"dropout": 1.0}, r"dropout=1\.0\).*less than 1"),
        ({"targets": "all_linear"}, r"targets='all_linear'\).*must be one of.*Did you mean 'all-linear'\?"),
        ({"targets": ()}, r"must hold at least one"),
        ({"targets": ("query", 3)}, r"only text"),
        ({"layers": 0}, r"layers=0\).*must be 'all', a number of upper layers of at least 1"),
        ({"layers": (-1,)}, r"layer numbers from 0"),
        ({"layers": True}, r"must be 'all'"),
        ({"layers": "upper"}, r"must be 'all'"),
        ({"init": "loftq"}, r"init='loftq'\).*'pissa'"),
        ({"init": "orthogonal", "r": 3}, r"needs an even r, got r=3"),
        ({"rank": 8}, r"LoraOptions has no option 'rank'\. It has: alpha,.* r,"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        LoraOptions(**values)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_rank_above_the_size_of_a_layer_is_refused_where_it_starts_from_the_weights(init: Any) -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"has only 32 singular directions. Use r=32 or less"):
        adapted(LoraOptions(r=33, init=init))


def test_options_survive_json() -> None:
    options = LoraOptions(targets=("query", "value"), layers=(1, 2), alpha=8)
    assert LoraOptions(**options.model_dump(mode="json")) == options


def test_scaling() -> None:
    for options, scaling in (
        (LoraOptions(r=8), 2.0),
        (LoraOptions(r=4, alpha=2), 0.5),
        (LoraOptions(r=4, use_rslora=True), 4.0),
    ):
        backbone, _ = adapted(options)
        assert {layer.scaling["default"] for layer in adapted_layers(backbone.model).values()} == {scaling}


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("init", STARTS)
def test_detaching_gives_back_the_pretrained_model_bit_for_bit(init: Any, use_dora: bool) -> None:
    backbone, strategy = adapted(LoraOptions(r=4, init=init, use_dora=use_dora))
    disturb(backbone)
    strategy.detach(backbone)  # type: ignore[attr-defined]
    pristine = load()
    assert same(weights(backbone), weights(pristine))
    assert torch.equal(states(backbone), states(pristine))
    assert not hasattr(backbone.model, "peft_config")


@pytest.mark.parametrize("init", STARTS)
def test_a_detached_backbone_can_be_adapted_again(init: Any) -> None:
    backbone, strategy = adapted(LoraOptions(r=4, init=init))
    strategy.detach(backbone)  # type: ignore[attr-defined]
    strategy.adapt(backbone)
    torch.testing.assert_close(states(backbone), states(load()))


@pytest.mark.parametrize("init", STARTS)
def test_only_updates_are_saved(init: Any) -> None:
    backbone, strategy = adapted(LoraOptions(r=2, init=init))
    state = strategy.state(backbone)
    assert all(".lora_" in name or ".initial_" in name for name in state)
    assert sum(tensor.numel() for tensor in state.values()) < 0.2 * sum(p.numel() for p in load().model.parameters())


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("init", STARTS)
def test_updates_fit_an_architecture_whose_weights_are_put_in_afterwards(init: Any, use_dora: bool) -> None:
    options = LoraOptions(r=4, init=init, use_dora=use_dora)
    backbone, strategy = adapted(options)
    disturb(backbone)
    state = strategy.state(backbone)
    rest = {name: tensor for name, tensor in weights(backbone).items() if name not in state}

    empty = BertBackbone(BertOptions(model=str(folder_of("bert")), max_length=32))
    empty.load(LoadRequest(weights=False))
    again = strategy_of(options)
    again.adapt(empty)
    own = empty.model.state_dict()
    assert set(rest) == {name for name in own if name not in again.state(empty)}
    with torch.no_grad():
        for name, tensor in rest.items():
            own[name].copy_(tensor)
    again.load_state(empty, state)
    assert torch.equal(states(empty), states(backbone))


def test_a_damaged_update_is_not_merged_and_nothing_is_changed() -> None:
    backbone, strategy = adapted(LoraOptions(r=2))
    last = [p for p in backbone.model.parameters() if p.requires_grad][-1]
    last.data.fill_(float("nan"))
    before = list(weights(backbone))
    with pytest.raises(NotMergeableError, match=r"lora_B.*not finite"):
        strategy.merge(backbone)
    assert list(weights(backbone)) == before


def training_parts(options: LoraOptions) -> set[str]:
    backbone, strategy = adapted(options)
    strategy.set_train_mode(backbone)
    return {name for name, m in backbone.model.named_modules() if isinstance(m, nn.Dropout) and m.training}


def test_the_backbone_keeps_its_dropout_above_constant_layers() -> None:
    assert training_parts(LoraOptions(r=2, backbone_dropout=False)) == set()
    all_parts = training_parts(LoraOptions(r=2))
    assert "embeddings.dropout" in all_parts
    assert "encoder.layer.0.output.dropout" in all_parts
    upper = training_parts(LoraOptions(r=2, layers=1))
    assert upper == {name for name in all_parts if name.startswith("encoder.layer.2.")}


def test_the_updates_own_dropout_is_on_in_training() -> None:
    names = training_parts(LoraOptions(r=2, dropout=0.1, backbone_dropout=False))
    assert names
    assert all(".lora_dropout." in name for name in names)


def test_importing_peft_leaves_the_level_of_a_foreign_logger_as_it_was() -> None:
    assert logging.getLogger("bitsandbytes.backends.cpu.ops").level == logging.NOTSET
