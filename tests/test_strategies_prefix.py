"""Strategies ``prefix`` and ``p-tuning-v2``: what attention computes, and that it holds in every architecture."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from strategy_kit import DECODERS, N_LAYERS, adapted, batch_of, disturb, folder_of, load, same, states, weights
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache

from mlclf import LlmOptions, PrefixOptions, PTuningV2Options
from mlclf.backbones.llm import LlmBackbone
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.interfaces import LoadRequest
from mlclf.options import Options
from mlclf.strategies.p_tuning_v2 import PTuningV2Strategy
from mlclf.strategies.prefix import PrefixStrategy
from mlclf.strategies.prefix_attention import CHILD, NAMES
from mlclf.strategies.prefix_bank import ComputedPrefix, Prefix, prefixes
from mlclf.testing import tiny_texts

PREFIX, DIRECT = PrefixOptions(n_tokens=3, hidden=8), PTuningV2Options(n_tokens=3)
BOTH = pytest.mark.parametrize("options", [PREFIX, DIRECT], ids=lambda options: str(options.component))
ENCODERS = ("bert", "roberta", "distilbert", "modernbert", "xlm-roberta", "electra", "albert")
EVERYWHERE = (*ENCODERS, *DECODERS)


@torch.no_grad()
def enlarge(backbone: PretrainedBackbone) -> None:
    """Make all keys and values so large that attention to them cannot be overlooked."""
    generator = torch.Generator().manual_seed(3)
    for prefix in prefixes(backbone.model).values():
        for tensor in (prefix.key, prefix.value):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))


def direct(architecture: str, **options: Any) -> PretrainedBackbone:
    """Return a backbone with large keys and values."""
    backbone, _ = adapted(DIRECT.replace(**options), architecture)
    enlarge(backbone)
    backbone.model.eval()
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["bert", "electra", "xlm-roberta"])
def test_attention_is_that_over_keys_and_values_put_before_those_of_the_tokens(architecture: str) -> None:
    backbone = direct(architecture)
    batch, seen = batch_of(backbone), {}
    layer = backbone.model.encoder.layer[1].attention.self
    handle = layer.register_forward_hook(lambda module, given, out: seen.update(states=given[0], output=out[0]))
    backbone.token_states(batch)
    handle.remove()

    def heads(linear: nn.Module) -> Tensor:
        return linear(seen["states"]).unflatten(2, (4, 8)).transpose(1, 2)

    prefix = getattr(layer, CHILD)
    key = torch.cat([prefix.key.expand(5, -1, -1, -1), heads(layer.key)], dim=2)
    value = torch.cat([prefix.value.expand(5, -1, -1, -1), heads(layer.value)], dim=2)
    scores = heads(layer.query) @ key.transpose(2, 3) / 8**0.5
    hidden = torch.cat([torch.zeros(5, 3, dtype=torch.bool), batch.attention_mask == 0], dim=1)
    weights = scores.masked_fill(hidden[:, None, None], float("-inf")).softmax(dim=-1)
    expected = (weights @ value).transpose(1, 2).flatten(2)
    mask = batch.attention_mask.bool()
    torch.testing.assert_close(seen["output"][mask], expected[mask], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma", "phi3", "glm"])
def test_a_causal_model_reads_a_prefix_as_it_reads_a_cache_without_a_shift_of_positions(architecture: str) -> None:
    backbone = direct(architecture)
    batch = batch_of(backbone)
    plain = AutoModel.from_pretrained(folder_of(architecture), attn_implementation="eager").eval()
    cache = DynamicCache()
    for number, prefix in enumerate(prefixes(backbone.model).values()):
        cache.update(prefix.key.expand(5, -1, -1, -1), prefix.value.expand(5, -1, -1, -1), number)
    longer = torch.cat([torch.ones(5, 3, dtype=torch.int64), batch.attention_mask], dim=1)
    positions = torch.arange(batch.input_ids.shape[1]).expand(5, -1)
    expected = plain(batch.input_ids, attention_mask=longer, position_ids=positions, past_key_values=cache)
    mask = batch.attention_mask.bool()
    found = backbone.token_states(batch)
    torch.testing.assert_close(found[mask], expected.last_hidden_state[mask], rtol=1e-4, atol=1e-5)


@BOTH
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_every_layer_gets_a_prefix_of_its_own_number_of_heads(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    state = strategy.state(backbone)
    grouped = {"llama": 2, "qwen3": 2, "gemma": 2, "glm": 2, "phi3": 2}
    assert len(state) == 2 * (1 if architecture == "albert" else N_LAYERS)
    assert {tuple(tensor.shape) for tensor in state.values()} == {(grouped.get(architecture, 4), 3, 8)}
    assert all(name.endswith((f"{CHILD}.key", f"{CHILD}.value")) for name in state)


@BOTH
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_every_weight_gets_a_gradient_and_changes_the_output(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    before = states(backbone)
    strategy.set_train_mode(backbone)
    output = backbone(batch_of(backbone)).pooled
    (output * torch.randn_like(output)).sum().backward()
    learning = {name: p.grad for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert [name for name, gradient in learning.items() if gradient is None or not gradient.any()] == []
    assert all(f".{CHILD}." in name for name in learning)
    enlarge_learning(backbone)
    assert (states(backbone) - before).abs().max() > 1e-3


@torch.no_grad()
def enlarge_learning(backbone: PretrainedBackbone) -> None:
    for parameter in backbone.model.parameters():
        if parameter.requires_grad:
            parameter += torch.randn_like(parameter)


@torch.no_grad()
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_a_text_reads_the_same_alone_and_among_longer_ones(architecture: str) -> None:
    backbone = direct(architecture)
    encoded = backbone.encode(["cat", "", *tiny_texts(4)])
    together = backbone(backbone.collate(encoded, np.arange(6))).pooled
    alone = torch.cat([backbone(backbone.collate(encoded, np.array([row]))).pooled for row in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("architecture", DECODERS)
def test_the_side_of_the_padding_makes_no_difference(architecture: str) -> None:
    right = direct(architecture)
    left = LlmBackbone(LlmOptions(model=str(folder_of(architecture)), max_length=32, padding_side="left"))
    left.load(LoadRequest())
    left.model = right.model
    torch.testing.assert_close(states(left), states(right), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "window"), [("modernbert", 8), ("mistral", 8), ("gemma3_text", 8)])
def test_a_prefix_is_visible_from_outside_of_a_sliding_window(architecture: str, window: int) -> None:
    """A token so far on that the window hides the first ones still reads the prefix, in a lowest layer of its own."""
    backbone = direct(architecture, layers=(0,))
    encoded = backbone.encode(["cat " * 20])
    batch = backbone.collate(encoded, np.arange(1))
    assert batch.input_ids.shape[1] > 2 * window
    before = backbone.lower_states(batch, 1)
    enlarge_learning(backbone)
    assert ((backbone.lower_states(batch, 1) - before).abs().amax(dim=2) > 1e-6).all()


@pytest.mark.parametrize("architecture", ["deberta-v2", "mpnet"])
@BOTH
def test_attention_without_the_interface_is_refused(options: Options, architecture: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"AttentionInterface.*can take prefixes"):
        adapted(options, architecture)
    backbone = load(architecture)
    before = backbone.model.config._attn_implementation
    with pytest.raises(IncompatibleComponentsError):
        PrefixStrategy(PREFIX).check(backbone)
    assert backbone.model.config._attn_implementation == before


def test_rates_are_those_that_were_tuned() -> None:
    rates = [(s.learning_rates.backbone, s.learning_rates.head) for s in (PrefixStrategy, PTuningV2Strategy)]
    assert rates == [(1e-3, 5e-3), (1e-2, 5e-3)]


def test_two_strategies_with_prefixes_do_not_go_together() -> None:
    backbone, _ = adapted(PREFIX)
    with pytest.raises(IncompatibleComponentsError, match="has prefixes already"):
        PrefixStrategy(PREFIX).check(backbone)


def test_attention_that_hides_tokens_without_a_mask_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load("llama")
    layer = backbone.model.layers[1]
    given = layer.self_attn.forward
    monkeypatch.setattr(layer.self_attn, "forward", lambda **named: given(**{**named, "attention_mask": None}))
    with pytest.raises(IncompatibleComponentsError, match="by other means than a mask"):
        PrefixStrategy(PREFIX).check(backbone)


def test_an_attention_function_of_another_name_is_refused() -> None:
    backbone = load("llama")
    backbone.model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(IncompatibleComponentsError, match=r"'flash_attention_2'.*eager, sdpa, mlclf"):
        PrefixStrategy(PREFIX).check(backbone)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_tokens": 0}, r"n_tokens=0\).*greater than or equal to 1"),
        ({"hidden": 0}, r"hidden=0\).*greater than or equal to 1"),
        ({"layers": 0}, "a number of upper layers of at least 1"),
        ({"tokens": 4}, "has no option 'tokens'. Did you mean 'n_tokens'"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        PrefixOptions(**values)


@BOTH
def test_upper_layers_alone_leave_the_lower_ones_constant(options: Options) -> None:
    backbone, strategy = adapted(options.replace(layers=1))
    assert [name.split(".")[2] for name in prefixes(backbone.model)] == [str(N_LAYERS - 1)]
    assert strategy.constant_layers(backbone) == N_LAYERS - 1
    disturb(backbone)
    batch = batch_of(backbone)
    cached = replace(batch, states=backbone.lower_states(batch, N_LAYERS - 1), first_layer=N_LAYERS - 1)
    torch.testing.assert_close(backbone(cached).pooled, backbone(batch).pooled)


def test_layers_that_a_backbone_does_not_have_are_refused() -> None:
    with pytest.raises(IncompatibleComponentsError, match=r"PrefixOptions\(layers=4\) does not fit the 3 layers"):
        adapted(PREFIX.replace(layers=4))
    with pytest.raises(IncompatibleComponentsError, match=r"PrefixOptions\(layers=1\) needs a stack of layers"):
        adapted(PREFIX.replace(layers=1), "albert")


def test_what_is_left_of_the_network_are_keys_and_values_and_the_output_is_the_same() -> None:
    backbone, strategy = adapted(PREFIX)
    disturb(backbone)
    assert all(isinstance(prefix, ComputedPrefix) for prefix in prefixes(backbone.model).values())
    before, saved = states(backbone), {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    strategy.finish(backbone)
    assert all(isinstance(prefix, Prefix) for prefix in prefixes(backbone.model).values())
    assert torch.equal(states(backbone), before)
    assert same(strategy.state(backbone), saved)
    assert {name for name, p in backbone.model.named_parameters() if p.requires_grad} == set(saved)


@BOTH
@pytest.mark.parametrize("architecture", ["bert", "albert", "llama"])
def test_saved_keys_and_values_make_a_fresh_backbone_equal(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    saved = {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    fresh, again = adapted(options, architecture, seed=7)
    again.load_state(fresh, saved)
    assert torch.equal(states(fresh), states(backbone))
    strategy.finish(backbone)
    assert same(weights(fresh), weights(backbone))


@BOTH
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_a_copy_and_a_pickled_backbone_keep_their_prefix(options: Options, architecture: str) -> None:
    backbone, _ = adapted(options, architecture)
    disturb(backbone)
    expected = states(backbone)
    twin = copy.deepcopy(backbone)
    assert torch.equal(states(twin), expected)
    assert torch.equal(states(pickle.loads(pickle.dumps(backbone))), expected)
    enlarge_learning(backbone)
    assert torch.equal(states(twin), expected)


@BOTH
@pytest.mark.parametrize("architecture", ["bert", "albert", "gemma"])
def test_detaching_gives_back_the_loaded_model_bit_for_bit(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    strategy.detach(backbone)
    pristine = load(architecture)
    assert same(weights(backbone), weights(pristine))
    assert torch.equal(states(backbone), states(pristine))
    assert [type(module) for module in backbone.model.modules()] == [type(m) for m in pristine.model.modules()]
    assert backbone.model.config._attn_implementation == pristine.model.config._attn_implementation
    strategy.check(backbone)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama"])
def test_half_precision_reads_the_prefix_too(architecture: str) -> None:
    backbone, pristine = direct(architecture), load(architecture)
    with torch.autocast("cpu", torch.bfloat16):
        error = (states(backbone) - states(pristine)) - change_of(backbone, pristine)
    assert error.norm() < 0.3 * change_of(backbone, pristine).norm()


def change_of(backbone: PretrainedBackbone, pristine: PretrainedBackbone) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return states(backbone) - states(pristine)


@pytest.mark.parametrize("inner", ["eager", "sdpa"])
def test_every_attention_function_gives_the_same(inner: str) -> None:
    backbone = direct("bert")
    expected = states(backbone)
    backbone.model.config._attn_implementation = NAMES[inner]
    torch.testing.assert_close(states(backbone), expected, rtol=1e-5, atol=1e-5)


def test_a_layer_without_a_prefix_computes_what_it_did() -> None:
    backbone = direct("llama", layers=1)
    batch = batch_of(backbone)
    expected = load("llama").lower_states(batch, N_LAYERS - 1)
    torch.testing.assert_close(backbone.lower_states(batch, N_LAYERS - 1), expected, rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "gpt2"])
def test_recomputing_activations_gives_the_same_gradients(options: Options, architecture: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, strategy = adapted(options, architecture)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        strategy.set_train_mode(backbone)
        torch.manual_seed(0)
        backbone(batch_of(backbone)).pooled.square().sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters() if p.requires_grad])
    for left, right in zip(*gradients, strict=True):
        assert left is not None
        torch.testing.assert_close(left, right)
