"""A causal backbone reads on from what it has read, and honours who sees whom and where tokens stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from mlclf import BertOptions, LlmOptions
from mlclf.backbones.bert import BertBackbone
from mlclf.backbones.llm import LlmBackbone
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone, Batch, LoadRequest
from mlclf.testing import tiny_decoder, tiny_encoder
from mlclf.testing.decoders import DecoderArchitecture

DECODERS = get_args(DecoderArchitecture)
ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "modernbert")
TEXTS = ["the cat eats cheese and rain on the train today", "a dog", "we like soup"]

Load = Callable[..., Backbone]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load small random models in float64, each written once."""
    root, written = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def load_one(architecture: str, **options: Any) -> Backbone:
        causal = architecture in DECODERS
        if architecture not in written:
            write: Any = tiny_decoder if causal else tiny_encoder
            written[architecture] = write(architecture, root / architecture)
        folder = str(written[architecture])
        backbone: Any = (
            LlmBackbone(LlmOptions(model=folder, **options)) if causal else BertBackbone(BertOptions(model=folder))
        )
        # Gemma 2 takes its softmax in float32, and transformers' own mask for it is not defined in float64.
        backbone.load(LoadRequest(dtype=torch.float32 if architecture == "gemma2" else torch.float64))
        return backbone.eval()  # type: ignore[no-any-return]

    return load_one


def assert_equal(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-10 if found.dtype is torch.float64 else 1e-5
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=tolerance)


def batch_of(backbone: Backbone) -> Batch:
    """Three texts, two of them padded; the first is longer than the sliding windows of the models."""
    return backbone.collate(backbone.encode(TEXTS), np.arange(len(TEXTS)))


def further(n_rows: int, n_tokens: int) -> Tensor:
    """Ids of further tokens, others in each row."""
    return torch.arange(10, 10 + n_rows * n_tokens).reshape(n_rows, n_tokens)


def joined(batch: Batch, ids: Tensor) -> Batch:
    """Return the batch with further tokens behind its own; no row is padded in between as positions tell."""
    mask = torch.cat([batch.attention_mask, torch.ones_like(ids)], dim=1)
    length = batch.input_ids.shape[1]
    positions = torch.cat(
        [
            (batch.attention_mask.cumsum(1) - 1).clamp(min=0),
            batch.attention_mask.sum(1, keepdim=True) + torch.arange(ids.shape[1]),
        ],
        dim=1,
    )
    visible = torch.ones(len(ids), length + ids.shape[1], length + ids.shape[1], dtype=torch.bool).tril()
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, ids], dim=1),
        attention_mask=mask,
        position_ids=positions,
        visible=visible,
    )


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_reading_in_three_goes_equals_reading_each_text_whole(load: Load, architecture: str, padding_side: str) -> None:
    backbone = load(architecture, padding_side=padding_side)
    batch, ids = batch_of(backbone), further(3, 6)
    states, memory = backbone.read(batch)
    assert_equal(states, backbone.token_states(batch))
    parts = torch.cat([backbone.read_on(memory, ids[:, :4]), backbone.read_on(memory, ids[:, 4:])], dim=1)
    assert memory.mask.shape == (3, batch.input_ids.shape[1] + 6)
    for row, mask in enumerate(batch.attention_mask.bool()):
        whole = torch.cat([batch.input_ids[row][mask], ids[row]])[None]
        expected = backbone.token_states(Batch(whole, torch.ones_like(whole), n_samples=1))
        assert_equal(parts[row], expected[0, -6:])


@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_masks_and_positions_in_one_go_equal_each_text_whole(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    batch, ids = batch_of(backbone), further(3, 6)
    together = backbone.token_states(joined(batch, ids))
    for row, mask in enumerate(batch.attention_mask.bool()):
        whole = torch.cat([batch.input_ids[row][mask], ids[row]])[None]
        expected = backbone.token_states(Batch(whole, torch.ones_like(whole), n_samples=1))
        assert_equal(together[row, -6:], expected[0, -6:])


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gemma3_text"])
@torch.no_grad()
def test_two_branches_with_restarted_positions_are_read_as_if_each_stood_alone(load: Load, architecture: str) -> None:
    backbone = load(architecture, padding_side="left")
    batch, ids = batch_of(backbone), further(3, 6)
    _, memory = backbone.read(batch)
    length = memory.mask.shape[1]
    positions = memory.next_positions[:, None] + torch.tensor([0, 1, 2, 0, 1, 2])
    visible = torch.zeros(3, 6, length + 6, dtype=torch.bool)
    visible[:, :, :length] = True
    for start in (0, 3):
        visible[:, start : start + 3, length + start : length + start + 3] = torch.ones(3, 3).tril().bool()
    packed = backbone.peek(memory, ids, positions, visible)
    for start in (0, 3):
        alone = backbone.peek(memory, ids[:, start : start + 3])
        assert_equal(packed[:, start : start + 3], alone)


@torch.no_grad()
def test_a_peek_leaves_the_memory_as_it_was(load: Load) -> None:
    backbone = load("qwen3")
    batch, ids = batch_of(backbone), further(3, 2)
    _, memory = backbone.read(batch)
    first = backbone.peek(memory, ids)
    assert memory.mask.shape == batch.attention_mask.shape
    assert_equal(backbone.peek(memory, ids), first)
    assert_equal(backbone.read_on(memory, ids), first)


@torch.no_grad()
def test_rows_are_chosen_and_repeated(load: Load) -> None:
    backbone = load("mistral")
    _, memory = backbone.read(batch_of(backbone))
    ids, index = further(3, 2), torch.tensor([2, 0, 0])
    chosen = memory.rows(index)
    assert_equal(backbone.peek(chosen, ids[index]), backbone.peek(memory, ids)[index])
    assert memory.rows(torch.tensor([True, False, True])).mask.shape[0] == 2
    assert memory.mask.shape[0] == 3


@torch.no_grad()
def test_further_tokens_that_are_padding_are_never_seen(load: Load) -> None:
    backbone = load("llama")
    _, memory = backbone.read(batch_of(backbone))
    ids = further(3, 3)
    padded = torch.cat([torch.zeros_like(ids[:, :1]), ids], dim=1)
    mask = torch.tensor([False, True, True, True]).expand(3, 4)
    expected = backbone.peek(memory, ids)
    assert_equal(backbone.peek(memory, padded, mask=mask)[:, 1:], expected)
    backbone.read_on(memory, padded, mask=mask)
    assert memory.mask[:, -4:].tolist() == mask.tolist()


def test_gradients_flow_through_the_memory(load: Load) -> None:
    backbone = load("qwen2")
    batch, ids = batch_of(backbone), further(3, 3)
    weights = [p for p in backbone.model.parameters() if p.requires_grad]
    _, memory = backbone.read(batch)
    parts = torch.autograd.grad(backbone.peek(memory, ids).square().sum(), weights)
    whole = torch.autograd.grad(backbone.token_states(joined(batch, ids))[:, -3:].square().sum(), weights)
    for left, right in zip(parts, whole, strict=True):
        assert_equal(left, right)


@pytest.mark.parametrize("architecture", ENCODERS)
@torch.no_grad()
def test_an_encoder_honours_masks_and_positions(load: Load, architecture: str) -> None:
    """A text and a branch behind it, which the text does not see, and a second branch with the same positions."""
    backbone = load(architecture)
    batch, ids = batch_of(backbone), further(3, 6)
    length = batch.input_ids.shape[1]
    both = joined(batch, ids)
    assert both.position_ids is not None
    visible = torch.zeros(3, length + 6, length + 6, dtype=torch.bool)
    visible[:, :, :length] = True
    visible[:, length : length + 3, length : length + 3] = visible[:, length + 3 :, length + 3 :] = True
    positions = torch.cat([both.position_ids[:, : length + 3], both.position_ids[:, length : length + 3]], dim=1)
    packed = backbone.token_states(replace(both, position_ids=positions, visible=visible))
    mask = batch.attention_mask.bool()
    assert_equal(packed[:, :length][mask], backbone.token_states(batch)[mask])
    for start in (length, length + 3):
        kept = [*range(length), *range(start, start + 3)]
        alone = replace(
            both,
            input_ids=both.input_ids[:, kept],
            attention_mask=both.attention_mask[:, kept],
            position_ids=positions[:, kept],
            visible=visible[:, kept][:, :, kept],
        )
        expected = backbone.token_states(alone)[:, length:]
        assert_equal(packed[:, start : start + 3], expected)


@pytest.mark.parametrize("architecture", ["roberta", "modernbert", "bert"])
@torch.no_grad()
def test_an_encoder_told_its_own_rule_computes_the_same(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    told = replace(
        batch,
        position_ids=(batch.attention_mask.cumsum(1) - 1).clamp(min=0),
        visible=torch.ones(3, *batch.input_ids.shape[1:] * 2, dtype=torch.bool),
    )
    mask = batch.attention_mask.bool()
    assert_equal(backbone.token_states(told)[mask], backbone.token_states(batch)[mask])


@pytest.mark.parametrize("architecture", ["gemma3_text", "mistral", "llama"])
@torch.no_grad()
def test_a_model_opened_to_both_sides_honours_masks(load: Load, architecture: str) -> None:
    backbone = load(architecture, bidirectional=True)
    batch = batch_of(backbone)
    told = replace(batch, visible=torch.ones(3, *batch.input_ids.shape[1:] * 2, dtype=torch.bool))
    mask = batch.attention_mask.bool()
    assert_equal(backbone.token_states(told)[mask], backbone.token_states(batch)[mask])
    assert not backbone.remembers
    with pytest.raises(IncompatibleComponentsError, match="see what comes after them"):
        backbone.read(batch)


@pytest.mark.parametrize("architecture", ["deberta-v2", "mpnet"])
def test_an_encoder_with_attention_of_its_own_refuses_masks(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    with pytest.raises(IncompatibleComponentsError, match="cannot be told which tokens see each other"):
        backbone.token_states(replace(batch, position_ids=torch.zeros_like(batch.input_ids)))


def test_an_encoder_remembers_nothing(load: Load) -> None:
    backbone = load("bert")
    with pytest.raises(IncompatibleComponentsError, match="remembers nothing"):
        backbone.read(batch_of(backbone))


def test_a_model_that_recomputes_activations_refuses_to_remember(load: Load) -> None:
    backbone = load("llama")
    backbone.enable_gradient_checkpointing()
    backbone.train()
    with pytest.raises(IncompatibleComponentsError, match="gradient_checkpointing=False"):
        backbone.read(batch_of(backbone))


def test_a_batch_takes_masks_along_to_its_device() -> None:
    ids = torch.zeros(1, 2, dtype=torch.int64)
    batch = Batch(ids, ids, 1, position_ids=ids, visible=torch.ones(1, 2, 2, dtype=torch.bool))
    moved = batch.to(torch.device("meta"))
    assert moved.position_ids is not None
    assert moved.visible is not None
    assert (moved.position_ids.device.type, moved.visible.device.type) == ("meta", "meta")
