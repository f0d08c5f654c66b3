"""The backbone ``llm`` reads texts with any causal language model, whichever side is padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows
from transformers import AutoModel

from mlclf import LlmOptions, MultiLabelClassifier
from mlclf.backbones.llm import LlmBackbone
from mlclf.exceptions import BackboneLoadError, OptionsError
from mlclf.interfaces import Batch, LoadRequest
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_texts
from mlclf.testing.decoders import DecoderArchitecture

ARCHITECTURES = get_args(DecoderArchitecture)
N_LAYERS = 3

Load = Callable[..., LlmBackbone]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("decoders")
    return {name: tiny_decoder(name, root / name, layers=N_LAYERS) for name in ARCHITECTURES}


@pytest.fixture
def load(folders: dict[str, Path]) -> Load:
    def load_one(architecture: str, **options: Any) -> LlmBackbone:
        backbone = LlmBackbone(LlmOptions(model=str(folders[architecture]), **options))
        backbone.load(LoadRequest())
        return backbone

    return load_one


def batch_of(backbone: LlmBackbone) -> Batch:
    """Return a batch with padding."""
    return backbone.collate(backbone.encode(["cat", *tiny_texts(4)]), np.arange(5))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_equal_those_of_transformers(load: Load, folders: dict[str, Path], architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    reference = AutoModel.from_pretrained(folders[architecture], attn_implementation="eager").eval()
    with torch.no_grad():
        expected = reference(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).last_hidden_state
        tokens = backbone.token_states(batch)
    mask = batch.attention_mask.bool()
    torch.testing.assert_close(tokens[mask], expected[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_reads_the_same_alone_and_among_longer_ones(load: Load, architecture: str, padding_side: str) -> None:
    backbone = load(architecture, padding_side=padding_side)
    encoded = backbone.encode(["cat", "", *tiny_texts(4)])
    with torch.no_grad():
        together = backbone(backbone.collate(encoded, np.arange(6))).pooled
        alone = torch.cat([backbone(backbone.collate(encoded, np.array([row]))).pooled for row in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_padding_is_put_where_it_is_asked_for(load: Load) -> None:
    left, right = (batch_of(load("llama", padding_side=side)) for side in ("left", "right"))
    assert left.attention_mask.flip(1).tolist() == right.attention_mask.tolist()
    assert left.attention_mask[:, -1].tolist() == [1] * 5


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_the_last_token_has_read_the_whole_text(load: Load, padding_side: str) -> None:
    backbone = load("qwen3", padding_side=padding_side)
    encoded = backbone.encode(["cat likes soup and rain", "dog likes soup and rain", "cat likes soup and a map today"])
    with torch.no_grad():
        pooled = backbone(backbone.collate(encoded, np.arange(3))).pooled
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-5)
    assert not torch.allclose(pooled[0], pooled[2], atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_running_in_two_parts_equals_running_whole(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    assert backbone.n_layers == len(backbone.layers()) == N_LAYERS
    with torch.no_grad():
        whole = backbone.token_states(batch)
        for k in range(1, N_LAYERS + 1):
            rest = backbone.token_states(replace(batch, states=backbone.lower_states(batch, k), first_layer=k))
            torch.testing.assert_close(rest, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_layer_is_left_out_and_every_parameter_takes_part(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    assert backbone.unused_parameters() == set()
    assert not any("lm_head" in name for name, _ in backbone.model.named_parameters())


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_every_pooling_gives_one_vector_a_row(load: Load, pooling: str) -> None:
    backbone = load("mistral", pooling=pooling)
    assert backbone(batch_of(backbone)).pooled.shape == (5, backbone.hidden_size)


@pytest.mark.parametrize(
    ("strategy", "padding_side"), [("lora", "left"), ("full", "right"), ("partial", "left"), ("features", "right")]
)
def test_a_classifier_learns_is_saved_and_answers_the_same(
    folders: dict[str, Path], tmp_path: Path, strategy: str, padding_side: Any
) -> None:
    backbone = LlmOptions(model=str(folders["qwen2"]), max_length=32, padding_side=padding_side)
    rows = toy_rows()
    rates = {"learning_rate": 5e-3, "head_learning_rate": 2e-2}
    clf = toy_classifier(folders["qwen2"], strategy, backbone=backbone, epochs=3, training=rates).fit(*rows)
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(rows[0]), clf.predict_proba(rows[0]), atol=1e-6)


def test_encoders_are_sent_to_the_backbone_for_them(tmp_path: Path) -> None:
    backbone = LlmBackbone(LlmOptions(model=str(tiny_encoder("bert", tmp_path))))
    with pytest.raises(BackboneLoadError, match=r'\(bert\) is no causal language model\. Use backbone="bert"'):
        backbone.load(LoadRequest())


@pytest.mark.parametrize("options", [{"pooling": "cls"}, {"padding_side": "both"}, {"modle": "x"}])
def test_options_outside_their_rule_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        LlmOptions(**options)
