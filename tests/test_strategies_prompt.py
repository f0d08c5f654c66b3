"""Strategies ``prompt-tuning`` and ``p-tuning``: where virtual tokens stand, and that nothing else sees them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from strategy_kit import DECODERS, LAYERED, adapted, batch_of, disturb, folder_of, load, same, states, weights
from torch import Tensor, nn

from mlclf import BertOptions, LlmOptions, PromptTuningOptions, PTuningOptions
from mlclf.assembly import resolve_parts
from mlclf.backbones.bert import BertBackbone
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.exceptions import BackboneLoadError, IncompatibleComponentsError, OptionsError
from mlclf.options import Options
from mlclf.strategies.p_tuning import PTuningStrategy
from mlclf.strategies.prompt_tuning import PromptTuningStrategy
from mlclf.strategies.soft_prompt import PlainPrompt, prompt_of
from mlclf.testing import tiny_texts

N = 3
DIRECT, LSTM = PromptTuningOptions(n_tokens=N), PTuningOptions(n_tokens=N, hidden=8)
MLP = LSTM.replace(encoder="mlp")
ALL = pytest.mark.parametrize("options", [DIRECT, LSTM, MLP], ids=["direct", "lstm", "mlp"])
EVERYWHERE = (*LAYERED, "electra", "albert", "mpnet", *DECODERS)


def large(architecture: str = "bert") -> PretrainedBackbone:
    """Return a backbone with virtual tokens that cannot be overlooked."""
    backbone, _ = adapted(DIRECT, architecture)
    with torch.no_grad():
        prompt_of(backbone.model).tokens().copy_(torch.randn_like(prompt_of(backbone.model).tokens()))
    backbone.model.eval()
    return backbone


def placed(backbone: PretrainedBackbone, ids: Tensor, place: int) -> Tensor:
    """Return the embeddings of one text with the virtual tokens among them."""
    text = backbone.model.get_input_embeddings()(ids)
    prompt = prompt_of(backbone.model).tokens()
    return torch.cat([text[:place], prompt, text[place:]])[None]


@torch.no_grad()
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_the_model_reads_virtual_tokens_after_the_first_token_and_gives_back_the_states_of_the_others(
    architecture: str,
) -> None:
    backbone, pristine = large(architecture), load(architecture)
    batch = batch_of(backbone)
    found = backbone.token_states(batch)
    assert found.shape[:2] == batch.input_ids.shape
    for row, mask in enumerate(batch.attention_mask.bool()):
        # One row by itself, without padding or mask, in the model as transformers has it.
        embedded = placed(backbone, batch.input_ids[row][mask], 1)
        expected = pristine.model(inputs_embeds=embedded).last_hidden_state[0]
        torch.testing.assert_close(found[row][mask], torch.cat([expected[:1], expected[1 + N :]]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_they_stand_before_the_text_where_a_causal_model_has_no_first_token() -> None:
    backbone = load("qwen3")
    backbone.model.config.bos_token_id = None
    strategy = PromptTuningStrategy(DIRECT)
    strategy.adapt(backbone)
    assert prompt_of(backbone.model).place == 0
    batch = batch_of(backbone)
    mask = batch.attention_mask[0].bool()
    expected = load("qwen3").model(inputs_embeds=placed(backbone, batch.input_ids[0][mask], 0)).last_hidden_state[0]
    torch.testing.assert_close(backbone.token_states(batch)[0][mask], expected[N:], rtol=1e-4, atol=1e-5)


@ALL
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_every_weight_gets_a_gradient_and_changes_the_output(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    before = states(backbone)
    strategy.set_train_mode(backbone)
    output = backbone(batch_of(backbone)).pooled
    (output * torch.randn_like(output)).sum().backward()
    learning = {name: p.grad for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert [name for name, gradient in learning.items() if gradient is None or not gradient.any()] == []
    assert all(name.startswith("soft_prompt.") for name in learning)
    disturb(backbone)
    assert (states(backbone) - before).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_a_text_reads_the_same_alone_and_among_longer_ones(architecture: str) -> None:
    backbone = large(architecture)
    encoded = backbone.encode(["cat", "", *tiny_texts(4)])
    together = backbone(backbone.collate(encoded, np.arange(6))).pooled
    alone = torch.cat([backbone(backbone.collate(encoded, np.array([row]))).pooled for row in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_pooling_sees_the_texts_own_tokens_only(pooling: str) -> None:
    backbone = load("bert", pooling)
    PromptTuningStrategy(DIRECT).adapt(backbone)
    batch = batch_of(backbone)
    tokens, mask = backbone.token_states(batch), batch.attention_mask.bool()
    assert torch.equal(backbone(batch).pooled, backbone.pooling(tokens, mask))
    assert torch.equal(backbone(batch).mask, mask)


@pytest.mark.parametrize(("architecture", "positions"), [("bert", 64), ("roberta", 64), ("xlm-roberta", 64)])
@torch.no_grad()
def test_texts_give_up_the_positions_that_virtual_tokens_take(architecture: str, positions: int) -> None:
    strategy = PromptTuningStrategy(PromptTuningOptions(n_tokens=5))
    backbone = BertBackbone(BertOptions(model=str(folder_of(architecture))))
    backbone.load(strategy.load_request())
    strategy.adapt(backbone)
    batch = backbone.collate(backbone.encode(["cat " * 100]), np.arange(1))
    assert batch.input_ids.shape[1] == positions - 5
    assert backbone.token_states(batch).isfinite().all()


def test_a_length_that_leaves_them_no_positions_is_refused() -> None:
    for max_length, n_tokens, message in (
        (62, 5, r"max_length=62 is more than the 59 tokens.*beside 5 others"),
        (None, 62, r"62 that strategy or head add leave no room for a text"),
    ):
        backbone = BertBackbone(BertOptions(model=str(folder_of("bert")), max_length=max_length))
        with pytest.raises(BackboneLoadError, match=message):
            backbone.load(PromptTuningStrategy(PromptTuningOptions(n_tokens=n_tokens)).load_request())


@pytest.mark.parametrize("strategy", ["prompt-tuning", "p-tuning"])
def test_left_padding_is_refused_before_anything_is_loaded(strategy: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=rf"{strategy}' needs padding on the right.*on the left"):
        resolve_parts(LlmOptions(padding_side="left"), strategy, "bce")


def test_rates_are_those_that_were_tuned() -> None:
    rates = [(s.learning_rates.backbone, s.learning_rates.head) for s in (PromptTuningStrategy, PTuningStrategy)]
    assert rates == [(5e-2, 5e-3), (1e-3, 5e-3)]


def test_a_second_prompt_is_refused() -> None:
    backbone, _ = adapted(DIRECT)
    with pytest.raises(IncompatibleComponentsError, match="has virtual tokens already"):
        PTuningStrategy(LSTM).check(backbone)


def test_a_model_that_takes_no_embeddings_is_refused() -> None:
    backbone = load()
    backbone.model = nn.Embedding(3, 4)
    with pytest.raises(IncompatibleComponentsError, match=r"\(Embedding\) does not take inputs_embeds"):
        PromptTuningStrategy(DIRECT).check(backbone)


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (PromptTuningOptions, {"n_tokens": 0}, r"n_tokens=0\).*greater than or equal to 1"),
        (PromptTuningOptions, {"init": "vocab"}, r"init='vocab'\).*'vocabulary' or 'random'"),
        (PTuningOptions, {"encoder": "gru"}, r"encoder='gru'\).*'lstm' or 'mlp'"),
        (PTuningOptions, {"hidden": 0}, r"hidden=0\).*greater than or equal to 1"),
    ],
)
def test_wrong_values_are_refused(options: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        options(**values)


def test_virtual_tokens_start_as_tokens_of_the_vocabulary_or_spread_as_they_are() -> None:
    backbone, _ = adapted(DIRECT, "electra")
    table = backbone.model.get_input_embeddings().weight
    tokens = prompt_of(backbone.model).tokens()
    assert ((tokens[:, None] - table[None]).abs().amax(dim=2) == 0).any(dim=1).all()
    random, _ = adapted(PromptTuningOptions(n_tokens=30, init="random"), "electra")
    assert 0.5 < prompt_of(random.model).tokens().std() / table.std() < 2.0


@ALL
def test_what_is_left_are_the_embeddings_and_the_output_is_the_same(options: Options) -> None:
    backbone, strategy = adapted(options)
    disturb(backbone)
    before, saved = states(backbone), {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    assert {name: tuple(tensor.shape) for name, tensor in saved.items()} == {"soft_prompt.tokens.embeddings": (N, 32)}
    strategy.finish(backbone)
    assert isinstance(prompt_of(backbone.model).tokens, PlainPrompt)
    assert torch.equal(states(backbone), before)
    assert {name for name, p in backbone.model.named_parameters() if p.requires_grad} == set(saved)


@ALL
@pytest.mark.parametrize("architecture", ["bert", "albert", "llama"])
def test_saved_virtual_tokens_make_a_fresh_backbone_equal(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    disturb(backbone)
    saved = {name: tensor.clone() for name, tensor in strategy.state(backbone).items()}
    fresh, again = adapted(options, architecture, seed=7)
    again.load_state(fresh, saved)
    assert torch.equal(states(fresh), states(backbone))
    strategy.finish(backbone)
    assert same(weights(fresh), weights(backbone))


@ALL
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "gpt2"])
def test_a_copy_and_a_pickled_backbone_keep_their_own_virtual_tokens(options: Options, architecture: str) -> None:
    backbone, _ = adapted(options, architecture)
    disturb(backbone)
    expected = states(backbone)
    twin, pickled = copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))
    disturb(backbone, seed=2)
    assert torch.equal(states(twin), expected)
    assert torch.equal(states(pickled), expected)
    assert not torch.equal(states(backbone), expected)


@ALL
@pytest.mark.parametrize("architecture", EVERYWHERE)
def test_detaching_gives_back_the_loaded_model_bit_for_bit(options: Options, architecture: str) -> None:
    backbone, strategy = adapted(options, architecture)
    strategy.detach(backbone)
    pristine = load(architecture)
    assert same(weights(backbone), weights(pristine))
    assert torch.equal(states(backbone), states(pristine))
    assert not backbone.model._forward_pre_hooks
    assert not backbone.model._forward_hooks
    strategy.adapt(backbone)
    assert not torch.equal(states(backbone), states(pristine))


def test_a_copy_can_be_detached() -> None:
    backbone, strategy = adapted(DIRECT)
    twin = copy.deepcopy(backbone)
    strategy.detach(twin)
    assert torch.equal(states(twin), states(load()))
    assert not torch.equal(states(backbone), states(twin))


@ALL
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
