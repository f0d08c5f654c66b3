"""The output layer over the vocabulary: what the language model computes, for all tokens or some of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.llm import LlmBackbone, LlmOptions
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_masked_lm, tiny_texts
from mlclf.testing.decoders import DecoderArchitecture

ENCODERS = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert", "xlm-roberta", "electra", "albert", "mpnet")


def loaded(kind: str, architecture: Any, folder: Path) -> tuple[Backbone, Any]:
    """Return a backbone with its output layer, and transformers' whole model from the same files."""
    if kind == "causal":
        backbone: Backbone = LlmBackbone(LlmOptions(model=str(tiny_decoder(architecture, folder))))
        whole = AutoModelForCausalLM.from_pretrained(folder)
    else:
        backbone = BertBackbone(BertOptions(model=str(tiny_masked_lm(architecture, folder))))
        whole = AutoModelForMaskedLM.from_pretrained(folder)
    backbone.load(LoadRequest(vocabulary=True))
    return backbone, whole.eval()


CASES = [("causal", name) for name in get_args(DecoderArchitecture)] + [("masked", name) for name in ENCODERS]


@pytest.mark.parametrize(("kind", "architecture"), CASES)
def test_logits_are_those_of_the_language_model(kind: str, architecture: str, tmp_path: Path) -> None:
    backbone, whole = loaded(kind, architecture, tmp_path)
    batch = backbone.collate(backbone.encode(tiny_texts(3)), np.arange(3))
    real = batch.attention_mask.bool()
    with torch.no_grad():
        states = backbone.token_states(batch)[real]
        expected = whole(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[real]
        assert backbone.vocabulary is not None
        some = torch.tensor([5, 9, 7])
        torch.testing.assert_close(backbone.vocabulary(states), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone.vocabulary(states, some), expected[:, some], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "architecture"), [("causal", "gemma"), ("masked", "bert")])
def test_a_shared_matrix_stays_shared_and_the_rest_is_frozen(kind: str, architecture: str, tmp_path: Path) -> None:
    backbone = copy.deepcopy(loaded(kind, architecture, tmp_path)[0])
    assert backbone.vocabulary is not None
    inside = {id(p) for p in backbone.model.parameters()}
    own = [p for p in backbone.vocabulary.parameters() if id(p) not in inside]
    assert len(own) < len(list(backbone.vocabulary.parameters()))
    assert not any(p.requires_grad for p in own)
    assert all(p.requires_grad for p in backbone.model.parameters())


def test_without_being_asked_for_there_is_none(tmp_path: Path) -> None:
    backbone = LlmBackbone(LlmOptions(model=str(tiny_decoder("llama", tmp_path))))
    backbone.load(LoadRequest())
    assert backbone.vocabulary is None


def test_a_model_that_was_saved_without_it_is_refused(tmp_path: Path) -> None:
    backbone = BertBackbone(BertOptions(model=str(tiny_encoder("bert", tmp_path))))
    with pytest.raises(BackboneLoadError, match="without the output layer over the vocabulary"):
        backbone.load(LoadRequest(vocabulary=True))


def test_states_of_32_bits_meet_weights_of_16(tmp_path: Path) -> None:
    tiny_decoder("llama", tmp_path)
    logits = []
    for dtype in ("float32", "bfloat16"):
        backbone = LlmBackbone(LlmOptions(model=str(tmp_path), dtype=dtype))  # type: ignore[arg-type]
        backbone.load(LoadRequest(vocabulary=True))
        assert backbone.vocabulary is not None
        states = torch.linspace(-1, 1, 3 * backbone.hidden_size).view(3, -1)
        with torch.no_grad():
            logits += [backbone.vocabulary(states)[:, 5:8], backbone.vocabulary(states, torch.arange(5, 8))]
    assert {found.dtype for found in logits} == {torch.float32}
    for found in logits[1:]:
        torch.testing.assert_close(found, logits[0], rtol=0.05, atol=0.01)
