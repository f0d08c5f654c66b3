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

from mlclf import LlmOptions, LoraOptions, MultiLabelClassifier
from mlclf.backbones.llm import LlmBackbone
from mlclf.exceptions import BackboneLoadError, IncompatibleComponentsError, OptionsError
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


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_side_of_the_padding_makes_no_difference(load: Load, architecture: str, pooling: str) -> None:
    with torch.no_grad():
        left, right = (
            backbone(batch_of(backbone)).pooled
            for backbone in (load(architecture, padding_side=side, pooling=pooling) for side in ("left", "right"))
        )
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_of_few_bits_give_nearly_the_same_states(load: Load, architecture: str, bits: Any) -> None:
    from mlclf.strategies.qlora import QloraOptions, QloraStrategy

    plain, quantised = load(architecture), LlmBackbone(load(architecture).options)
    quantised.load(QloraStrategy(QloraOptions(bits=bits)).load_request())
    batch = batch_of(plain)
    mask = batch.attention_mask.bool()
    with torch.no_grad():
        expected, found = (backbone.token_states(batch)[mask] for backbone in (plain, quantised))
    assert not torch.equal(expected, found)
    similarity = torch.nn.functional.cosine_similarity(expected, found, dim=-1)
    assert similarity.mean() > {4: 0.85, 8: 0.999}[bits]  # 4 bits lose much of so small a model


def test_weights_are_quantised_on_the_processor_where_no_other_device_is_asked_for(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlclf.strategies.qlora import QloraOptions, QloraStrategy

    backbone = LlmBackbone(LlmOptions(model=str(folders["llama"])))
    request = QloraStrategy(QloraOptions()).load_request()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # transformers takes the first GPU by itself
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    backbone.load(request)
    assert {tensor.device.type for tensor in backbone.state_dict().values()} == {"cpu"}


def test_weights_may_stand_in_several_files(folders: dict[str, Path], tmp_path: Path) -> None:
    AutoModel.from_pretrained(folders["qwen3"]).save_pretrained(tmp_path, max_shard_size="20KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folders["qwen3"] / name).read_bytes())
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    pooled = []
    for folder in (folders["qwen3"], tmp_path):
        backbone = LlmBackbone(LlmOptions(model=str(folder)))
        backbone.load(LoadRequest())
        with torch.no_grad():
            pooled.append(backbone(batch_of(backbone)).pooled)
    assert torch.equal(*pooled)


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


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_attention_to_both_sides_the_first_token_sees_the_last(
    load: Load, architecture: str, padding_side: str
) -> None:
    encoded, seen = None, {}
    for both in (False, True):
        backbone = load(architecture, padding_side=padding_side, bidirectional=both, pooling="mean")
        encoded = backbone.encode(["cat likes soup", "cat likes rain", "cat"])
        with torch.no_grad():
            pair = backbone(backbone.collate(encoded, np.arange(3)))
            alone = backbone(backbone.collate(encoded, np.array([0]))).pooled
        first = pair.mask.int().argmax(dim=1)
        seen[both] = not torch.allclose(pair.tokens[0, first[0]], pair.tokens[1, first[1]], atol=1e-6)
        torch.testing.assert_close(alone[0], pair.pooled[0], rtol=1e-4, atol=1e-5)
    assert seen == {False: False, True: True}


def test_attention_to_both_sides_survives_parts_saving_and_export(folders: dict[str, Path], tmp_path: Path) -> None:
    from mlclf.onnx import OnnxClassifier

    rows = toy_rows(48)
    backbone = LlmOptions(
        model=str(folders["mistral"]), max_length=32, bidirectional=True, pooling="mean", padding_side="left"
    )
    clf = toy_classifier(folders["mistral"], LoraOptions(r=4, layers=1), backbone=backbone).fit(*rows)
    assert clf.history_.cached_layers == N_LAYERS - 1
    clf.save(tmp_path / "model")
    expected = clf.predict_proba(rows[0])
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(rows[0]), expected, atol=1e-6)
    clf.export_onnx(tmp_path / "bundle")
    np.testing.assert_allclose(OnnxClassifier(tmp_path / "bundle", "cpu").predict_proba(rows[0]), expected, atol=1e-5)


def test_an_architecture_without_attention_cannot_look_ahead(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlclf.backbones.llm.open_masks", lambda config: None)
    backbone = LlmBackbone(LlmOptions(model=str(folders["llama"]), bidirectional=True))
    with pytest.raises(BackboneLoadError, match=r"cannot be made to see what comes after.*Use bidirectional=False"):
        backbone.load(LoadRequest())


@pytest.mark.parametrize(("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_frozen_weights_may_have_16_bits_and_what_learns_has_32(
    folders: dict[str, Path], dtype: str, expected: torch.dtype
) -> None:
    from mlclf.strategies.lora import LoraStrategy

    backbone, strategy = LlmBackbone(LlmOptions(model=str(folders["qwen3"]), dtype=dtype)), LoraStrategy(LoraOptions())
    backbone.load(strategy.load_request())
    strategy.adapt(backbone)
    assert {p.dtype for p in backbone.model.parameters() if not p.requires_grad} == {expected}
    assert {p.dtype for p in backbone.model.parameters() if p.requires_grad} == {torch.float32}
    assert backbone(batch_of(backbone)).pooled.dtype is torch.float32


def test_auto_takes_the_type_that_a_model_was_saved_in(folders: dict[str, Path], tmp_path: Path) -> None:
    for saved in (torch.float32, torch.bfloat16):
        AutoModel.from_pretrained(folders["llama"], dtype=saved).save_pretrained(tmp_path / str(saved))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (tmp_path / str(saved) / name).write_bytes((folders["llama"] / name).read_bytes())
        backbone = LlmBackbone(LlmOptions(model=str(tmp_path / str(saved)), dtype="auto"))
        backbone.load(LoadRequest())
        assert {p.dtype for p in backbone.model.parameters()} == {saved}


def test_weights_of_16_bits_are_not_trained(folders: dict[str, Path]) -> None:
    backbone = LlmOptions(model=str(folders["llama"]), dtype="bfloat16")
    with pytest.raises(
        IncompatibleComponentsError, match=r"'full' trains the loaded weights.*With dtype='float32' it can"
    ):
        toy_classifier(folders["llama"], "full", backbone=backbone).fit(*toy_rows(32))


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_a_classifier_over_16_bits_learns_is_saved_and_exported_in_32(
    folders: dict[str, Path], tmp_path: Path, strategy: str
) -> None:
    rows = toy_rows()
    backbone = LlmOptions(model=str(folders["llama"]), max_length=32, dtype="bfloat16")
    rates = {"learning_rate": 5e-3, "head_learning_rate": 2e-2, "gradient_checkpointing": True}
    clf = toy_classifier(folders["llama"], strategy, backbone=backbone, epochs=3, training=rates).fit(*rows)
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(rows[0]), clf.predict_proba(rows[0]), atol=1e-6)
    report = clf.export_onnx(tmp_path / "bundle")  # compared with the same weights in float32
    assert report.parity.max_change < 1e-5


def test_a_device_map_needs_one_process(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BackboneLoadError, match=r"several processes were launched.*use device_map=None"):
        LlmBackbone(LlmOptions(model=str(folders["llama"]), device_map="auto")).load(LoadRequest())


def test_on_one_device_a_device_map_changes_nothing(load: Load) -> None:
    plain, mapped = load("qwen2"), load("qwen2", device_map="auto")
    with torch.no_grad():
        expected = plain(batch_of(plain)).pooled
        assert torch.equal(mapped.to("cpu")(batch_of(mapped)).pooled.cpu(), expected)


def test_a_model_that_is_left_outside_of_the_gpus_is_refused(load: Load) -> None:
    backbone = load("qwen2")
    backbone.model.hf_device_map = {"layers.0": 0, "layers.1": "cpu"}  # type: ignore[assignment]
    with pytest.raises(BackboneLoadError, match=r"does not fit into the GPUs.*on cpu.*strategy='qlora'"):
        backbone.adjust_model(backbone.model)


def test_a_model_on_several_devices_is_not_moved(load: Load) -> None:
    backbone = load("qwen2", pooling="attention")
    backbone.model.hf_device_map = {"layers.0": 0, "layers.1": 1}  # type: ignore[assignment]
    backbone.double()  # goes the way of every move
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    assert {p.dtype for p in backbone.pooling.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        *((architecture, {"dropout": 0.0}) for architecture in ARCHITECTURES),
        ("qwen3", {"bidirectional": True, "pooling": "mean"}),
        ("qwen3", {"dtype": "bfloat16"}),
    ],
)
def test_recomputing_activations_gives_the_same_gradients(
    load: Load, architecture: str, options: dict[str, Any]
) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = load(architecture, **options)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        backbone.model.train()
        backbone(batch_of(backbone)).pooled.square().sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters()])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)
