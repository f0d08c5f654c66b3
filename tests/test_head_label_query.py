"""The head ``label-query`` reads a text once, and every label as if it stood alone behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from multitask_kit import make
from torch import Tensor, nn
from toy import toy_classifier, toy_rows

import mlclf.backbones.visibility as visibility
from mlclf import BertOptions, LabelQueryOptions, LlmOptions, MultiLabelClassifier, MultiTaskClassifier
from mlclf.backbones.bert import BertBackbone
from mlclf.backbones.llm import LlmBackbone
from mlclf.exceptions import BackboneLoadError, BundleDamagedError, OptionsError, UnknownLabelError
from mlclf.heads.label_query import LabelQueryHead
from mlclf.heads.label_query_reading import _read_stacked, read_batched, read_packed
from mlclf.interfaces import Backbone, Batch, LabelStatistics, LoadRequest
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing import tiny_decoder, tiny_encoder
from mlclf.testing.decoders import DecoderArchitecture, _special_ids, _tokenizer, _write

DECODERS = get_args(DecoderArchitecture)
ENCODERS = ("bert", "roberta", "distilbert", "modernbert", "albert")
NAMES = ("food", "rain", "travel", "cats and dogs", "a very long name of a label", "rain and snow")
TEXTS = ["the cat eats cheese and rain on the train today", "a dog", "", "we like soup"]

Load = Callable[..., Backbone]


def statistics(names: tuple[str, ...] = NAMES) -> LabelStatistics:
    return LabelStatistics(names, positives=np.arange(len(names)) + 1, known=np.full(len(names), 20))


@torch.no_grad()
def sharpened(backbone: Backbone) -> Backbone:
    """Make attention pick few tokens: with fresh weights every token sees about the mean of all."""
    for name, parameter in backbone.model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name and "wte" not in name and "wpe" not in name:
            parameter *= 6
    return backbone


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load small random models, each written once."""
    root, written = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def load_one(architecture: str, dtype: torch.dtype = torch.float64, **options: Any) -> Backbone:
        causal = architecture in (*DECODERS, "qwen3_next")
        if architecture not in written:
            write: Any = hybrid if architecture == "qwen3_next" else tiny_decoder if causal else tiny_encoder
            written[architecture] = write(architecture, root / architecture)
        folder = str(written[architecture])
        backbone: Any = (
            LlmBackbone(LlmOptions(model=folder, **options))
            if causal
            else BertBackbone(BertOptions(model=folder, **options))
        )
        # Gemma 2 takes its softmax in float32.
        backbone.load(LoadRequest(dtype=torch.float32 if architecture == "gemma2" else dtype))
        return sharpened(backbone.eval())

    return load_one


def hybrid(architecture: Any, folder: Path) -> Path:
    """Write a model whose first layer is linear attention, which no mask reaches."""
    tokenizer = _tokenizer()
    sizes = {
        **_special_ids(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "max_position_embeddings": 64,
        "layer_types": ["linear_attention", "full_attention"],
    }
    return _write(architecture, sizes, tokenizer, folder, 0)


def bound(backbone: Backbone, names: tuple[str, ...] = NAMES, **options: Any) -> LabelQueryHead:
    torch.manual_seed(0)
    head = LabelQueryHead(LabelQueryOptions(**options))
    head.bind(backbone, statistics(names))
    nn.init.normal_(head.scorer.own, std=0.02)
    return head.eval().double()


def batch_of(backbone: Backbone) -> Batch:
    return backbone.collate(backbone.encode(TEXTS), np.arange(len(TEXTS)))


def one_at_a_time(backbone: Backbone, head: LabelQueryHead, batch: Batch) -> Tensor:
    """Return logits of one label at a time: heads that know no other label."""
    columns = []
    for label, name in enumerate(NAMES):
        alone = bound(backbone, (name,), **head.options.get_params())
        with torch.no_grad():
            alone.scorer.shared.copy_(head.scorer.shared)
            alone.scorer.own.copy_(head.scorer.own[label : label + 1])
            alone.scorer.bias.copy_(head.scorer.bias[label : label + 1])
        columns.append(alone.features_to_logits(alone.features(backbone, batch)))
    return torch.cat(columns, dim=1)


def scores(backbone: Backbone, head: LabelQueryHead, batch: Batch) -> Tensor:
    return head.features_to_logits(head.features(backbone, batch))


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_packed_labels_equal_each_label_behind_the_text_by_the_models_own_rule(
    load: Load, architecture: str, padding_side: str, readout: Any
) -> None:
    backbone = load(architecture, padding_side=padding_side)
    head, batch = bound(backbone, readout=readout), batch_of(backbone)
    assert head._packs
    packed = read_packed(backbone, batch, head.branches, 512, readout)
    alone = read_batched(backbone, batch, head.branches, 0, readout)
    tolerance = 1e-4 if architecture == "gemma2" else 1e-10
    torch.testing.assert_close(packed, alone, rtol=0, atol=tolerance)
    assert (packed[0] - packed[1]).abs().max() > 0.1
    assert (packed[:, 0] - packed[:, 1]).abs().max() > 0.1


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gemma3_text", *ENCODERS])
@torch.no_grad()
def test_in_float32_packed_labels_equal_one_at_a_time_to_four_digits(load: Load, architecture: str) -> None:
    backbone = load(architecture, dtype=torch.float32)
    head, batch = bound(backbone), batch_of(backbone)
    torch.testing.assert_close(scores(backbone, head, batch), one_at_a_time(backbone, head, batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "mistral", *ENCODERS])
@torch.no_grad()
def test_in_float64_packed_labels_equal_one_at_a_time_to_ten_digits(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    head, batch = bound(backbone), batch_of(backbone)
    packed = scores(backbone, head, batch)
    torch.testing.assert_close(packed, one_at_a_time(backbone, head, batch), rtol=0, atol=1e-10)
    for chunk in (1, 5, 9):
        pieces = bound(backbone, chunk=chunk)
        assert len(pieces.branches.parts(chunk)) > 1
        torch.testing.assert_close(scores(backbone, pieces, batch), packed, rtol=0, atol=1e-10)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3_text"])
@torch.no_grad()
def test_a_model_opened_to_both_sides_is_asked_one_label_at_a_time_too(load: Load, architecture: str) -> None:
    backbone = load(architecture, bidirectional=True)
    head, batch = bound(backbone), batch_of(backbone)
    assert head._packs
    torch.testing.assert_close(scores(backbone, head, batch), one_at_a_time(backbone, head, batch), rtol=0, atol=1e-10)


def assert_gradients_equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], architecture: str) -> None:
    # The norms of causal models compute in float32 whatever they are given.
    tolerance = 1e-9 if architecture in ENCODERS else 1e-4
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk", [512, 6])
@pytest.mark.parametrize("architecture", ["mistral", "bert"])
def test_packed_gradients_are_the_sum_over_labels(load: Load, architecture: str, chunk: int) -> None:
    backbone = load(architecture)
    head, batch = bound(backbone, chunk=chunk), batch_of(backbone)
    unused = backbone.unused_parameters()
    weights = [p for name, p in backbone.model.named_parameters() if name not in unused]
    packed = torch.autograd.grad(scores(backbone, head, batch).square().sum(), weights)
    alone = torch.autograd.grad(one_at_a_time(backbone, head, batch).square().sum(), weights)
    assert_gradients_equal(packed, alone, architecture)


def test_recomputed_activations_give_the_same_answers_and_gradients(load: Load) -> None:
    backbone = load("llama")
    head, batch = bound(backbone, chunk=8), batch_of(backbone)
    weights = list(backbone.model.parameters())
    before = torch.autograd.grad(scores(backbone, head, batch).square().sum(), weights)
    backbone.enable_gradient_checkpointing()
    backbone.train()
    assert not backbone.remembers
    after = torch.autograd.grad(scores(backbone, head, batch).square().sum(), weights)
    assert_gradients_equal(before, after, "llama")


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("qwen3_next", "linear_attention"), ("deberta-v2", "its attention has rules of its own")],
)
@torch.no_grad()
def test_where_masks_do_not_reach_labels_are_read_in_rows_of_their_own(
    load: Load, caplog: pytest.LogCaptureFixture, architecture: str, reason: str
) -> None:
    backbone = load(architecture, dtype=torch.float32)
    with caplog.at_level(logging.WARNING):
        head = bound(backbone)
    assert not head._packs
    assert "a row of its own" in caplog.text
    assert reason in caplog.text
    batch = batch_of(backbone)
    torch.testing.assert_close(scores(backbone, head, batch), one_at_a_time(backbone, head, batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_model_in_which_labels_would_see_each_other_is_found_out(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, architecture: str
) -> None:
    backbone = load(architecture, dtype=torch.float32)
    monkeypatch.setattr(visibility, "_own", torch.ones_like)  # every token sees every token
    with caplog.at_level(logging.WARNING):
        assert not bound(backbone)._packs
    assert "have other states than alone" in caplog.text


def test_the_mode_of_every_module_is_left_as_it_was(load: Load) -> None:
    backbone = load("bert")
    backbone.layers()[1].train()
    modes = [module.training for module in backbone.modules()]
    bound(backbone)
    assert [module.training for module in backbone.modules()] == modes


def test_labels_that_are_the_same_tokens_are_refused_with_both_names(load: Load) -> None:
    with pytest.raises(OptionsError, match=r"Labels 'Food' and 'food' are the same tokens"):
        bound(load("bert"), ("rain", "Food", "food"))


def test_a_description_tells_labels_apart(load: Load) -> None:
    head = bound(load("bert"), ("Food", "food"), descriptions={"Food": "what we eat"})
    assert len(head.branches.rows[0]) > len(head.branches.rows[1])


def test_a_label_without_tokens_or_with_too_many_is_refused(load: Load) -> None:
    with pytest.raises(OptionsError, match=r"Label '' has no token"):
        bound(load("bert"), ("food", ""))
    with pytest.raises(OptionsError, match=r"Label 'food' has more tokens than the 64"):
        bound(load("bert"), ("food",), descriptions={"food": "cat " * 70})
    with pytest.raises(BackboneLoadError, match=r"max_length=60 is more than the 48 tokens"):
        bound(load("bert", max_length=60), ("food",))


def test_special_tokens_in_a_name_are_plain_characters(load: Load) -> None:
    backbone = load("bert")
    head = bound(backbone, ("[SEP] [PAD] food", "food"))
    special = {backbone.encoder.tokenizer.token_to_id(token) for token in ("[SEP]", "[PAD]", "[CLS]", "[MASK]")}
    *name, closing = head.branches.rows[0]
    assert not special & set(name)
    assert closing == backbone.encoder.tokenizer.token_to_id("[SEP]")


def test_texts_leave_room_for_the_labels(load: Load) -> None:
    backbone = load("bert")
    assert backbone.encoder.max_length == 64
    head = bound(backbone, ("food", "rain"))
    assert backbone.encoder.max_length == 48
    batch = backbone.collate(backbone.encode(["the cat and " * 40]), np.arange(1))
    assert batch.input_ids.shape[1] == 48
    assert scores(backbone, head, batch).isfinite().all()


def test_options_are_checked_against_the_labels() -> None:
    head = LabelQueryHead(LabelQueryOptions(descriptions={"foods": "what we eat"}))
    with pytest.raises(UnknownLabelError, match=r"descriptions has 'foods', which is no label\. Did you mean 'food'"):
        head.check(statistics())
    with pytest.raises(OptionsError, match=r"must hold \{label\}"):
        LabelQueryOptions(template="a label")


@pytest.mark.parametrize("loss", [spec.name for spec in BUILTINS["loss"]])
def test_every_loss_trains_it(load: Load, loss: str) -> None:
    backbone = load("bert", dtype=torch.float32)
    head = bound(backbone, loss=loss).float()
    targets = torch.tensor([[1.0, 0, 0, 1, 0, 0]] * len(TEXTS))
    losses = head.losses(backbone, replace(batch_of(backbone), targets=targets))
    losses.sum().backward()
    assert losses.shape == (len(TEXTS),)
    assert head.scorer.shared.grad is not None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("fitted")
    return {
        "bert": BertOptions(model=str(tiny_encoder("bert", root / "bert")), max_length=32),
        "llama": LlmOptions(model=str(tiny_decoder("llama", root / "llama")), max_length=32),
        "mistral": LlmOptions(model=str(tiny_decoder("mistral", root / "mistral")), max_length=32, padding_side="left"),
    }


def fitted(backbone: Any, strategy: Any = "full", epochs: int = 2, **changes: Any) -> MultiLabelClassifier:
    clf = toy_classifier(Path(), strategy, epochs=epochs, backbone=backbone, head="label-query", **changes)
    return clf.fit(*toy_rows(48))


@pytest.mark.parametrize("architecture", ["bert", "mistral"])
def test_a_classifier_learns_and_comes_back(folders: dict[str, Any], tmp_path: Path, architecture: str) -> None:
    texts, _ = toy_rows(20, seed=3)
    descriptions = {"food": "what we eat"}
    clf = toy_classifier(
        Path(), "full", epochs=6, backbone=folders[architecture], head=LabelQueryOptions(descriptions=descriptions)
    ).fit(*toy_rows())
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    expected = clf.predict_proba(texts)
    clf.save(tmp_path / "model")
    loaded = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(texts), expected, atol=1e-6)
    assert loaded.head.descriptions == descriptions


def test_a_saved_model_with_other_tokens_for_its_labels_is_refused(
    folders: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(folders["bert"], "head-only", epochs=1).save(tmp_path / "model")
    monkeypatch.setattr(LabelQueryHead, "_texts", lambda self, backbone, labels: [f"the {n}" for n in labels.names])
    with pytest.raises(BundleDamagedError, match="were other tokens when it was trained"):
        MultiLabelClassifier.load(tmp_path / "model")


def test_a_head_that_was_trained_in_rows_stays_so_and_one_trained_packed_is_not_read_in_rows(load: Load) -> None:
    backbone = load("bert")
    head = bound(backbone)
    state = dict(head.state_dict())
    head.check_state({**state, "packed": torch.tensor(False)})
    assert not head._packs
    with pytest.raises(BundleDamagedError, match="were read together when it was trained"):
        head.check_state({**state, "packed": torch.tensor(True)})


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_labels_are_added_at_run_time_and_old_answers_stay(folders: dict[str, Any], architecture: str) -> None:
    clf = fitted(folders[architecture], "lora", epochs=1, classes=["animals", "food", "travel", "weather"])
    texts, _ = toy_rows(20, seed=3)
    before = clf.predict_proba(texts)
    clf.add_labels(["soup and cake", "harbour"])
    after = clf.predict_proba(texts)
    np.testing.assert_allclose(after[:, :4], before, atol=1e-6)
    assert np.ptp(after[:, 4:], axis=0).max() > 0  # they read the text at once


@pytest.mark.parametrize("strategy", ["head-only", "features", "partial", "adapter", "bitfit", "ia3", "qlora"])
def test_nothing_is_kept_from_epoch_to_epoch_that_labels_would_change(folders: dict[str, Any], strategy: str) -> None:
    if strategy == "qlora":
        pytest.importorskip("bitsandbytes")
    clf = fitted(folders["bert"], strategy)
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    assert clf.history_.cached_layers == 0


def test_it_trains_with_recomputed_activations(folders: dict[str, Any]) -> None:
    head, training = LabelQueryOptions(chunk=6, dropout=0), {"gradient_checkpointing": True}
    texts, _ = toy_rows(20, seed=3)
    fits = [
        toy_classifier(Path(), "lora", epochs=1, backbone=folders["llama"], head=head, training=given).fit(
            *toy_rows(48)
        )
        for given in (training, {})
    ]
    np.testing.assert_allclose(fits[0].predict_proba(texts), fits[1].predict_proba(texts), atol=1e-3)


def test_long_documents_are_read_in_windows(folders: dict[str, Any]) -> None:
    clf = fitted(folders["bert"].replace(max_length=12, window_stride=2), "lora", epochs=1)
    long = "the cat eats cheese and rain on the train today " * 4
    assert clf.model_.dataset([long]).encoded.n_windows > 2
    assert clf.predict_proba([long, "a dog"]).shape == (2, 4)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama", "gemma3_text"])
@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("chunk", [1, 8, 512])
def test_a_graph_reads_all_chunks_in_one_pass_with_the_same_states(
    load: Load, architecture: str, readout: Any, chunk: int
) -> None:
    backbone = load(architecture)
    batch, branches = batch_of(backbone), bound(backbone).branches
    with torch.no_grad():
        expected = read_packed(backbone, batch, branches, 512, readout)
        found = _read_stacked(backbone, batch, branches.stack(chunk), readout)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 if architecture == "gemma3_text" else 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["linear", "verbalizer"])
def test_hundreds_of_labels_make_the_graph_no_longer(tmp_path: Path, scorer: Any) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    backbone = LlmOptions(model=str(tiny_decoder("llama", tmp_path / "llama")), max_length=24)
    sizes = []
    for n_labels in (3, 300):
        names = [f"label {number}" for number in range(n_labels)]
        head = LabelQueryOptions(scorer=scorer, chunk=64)
        clf = toy_classifier(Path(), "lora", epochs=1, backbone=backbone, head=head, classes=names)
        clf.fit(["the cat", "rain"] * 4, [names[:1], names[-1:]] * 4)
        assert clf.export_onnx(tmp_path / "bundle").parity.max_change < 1e-5
        sizes.append(len(onnx.load(tmp_path / "bundle" / "model.onnx").graph.node))
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.parametrize(
    "architecture", ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "mistral"))]
)
def test_an_exported_graph_gives_the_same_answers(folders: dict[str, Any], tmp_path: Path, architecture: str) -> None:
    pytest.importorskip("onnxruntime")
    head = LabelQueryOptions(chunk=8)
    clf = toy_classifier(Path(), "lora", epochs=1, backbone=folders[architecture], head=head).fit(*toy_rows(48))
    report = clf.export_onnx(tmp_path / "bundle")
    assert report.parity.max_change < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_weights_are_exported_too(folders: dict[str, Any], tmp_path: Path, precision: Any) -> None:
    pytest.importorskip("onnxruntime")
    report = fitted(folders["bert"], "lora", epochs=1).export_onnx(tmp_path / "bundle", precision=precision)
    assert report.parity.max_change < 1e-2


@pytest.mark.slow
def test_labels_that_are_read_in_rows_are_exported_too(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    backbone = BertOptions(model=str(tiny_encoder("mpnet", tmp_path / "mpnet")), max_length=32)
    clf = fitted(backbone, "full", epochs=1)
    assert not clf.model_.network.head._packs
    assert clf.export_onnx(tmp_path / "bundle").parity.max_change < 1e-4


def test_it_is_a_task_among_others_over_one_backbone(folders: dict[str, Any], tmp_path: Path) -> None:
    texts, labels = toy_rows(32)
    mt = make(folders["bert"].replace(max_length=None))
    mt.add_task("topics", texts, labels, strategy="lora", head="label-query")
    mt.add_task("again", texts, labels, strategy="lora")
    long = [*texts[:5], "the cat eats cheese and rain on the train today " * 9]
    mt.save(tmp_path / "tasks")
    loaded = MultiTaskClassifier.load(tmp_path / "tasks", device="cpu")
    tasks = ["topics", "again"] * 3
    expected = [mt.predict_proba(long, task)[row] for row, task in enumerate(tasks)]
    for model in (mt, loaded):
        for found, wanted in zip(model.predict_proba(long, tasks), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
