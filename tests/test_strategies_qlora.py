"""Strategy ``qlora``: updates over rounded weights that merge exactly, are saved alone, and run on any device."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import toy_classifier, toy_rows

from mlclf import LlmOptions, LoraOptions, MultiLabelClassifier, QloraOptions, TrainingOptions, to_indicator
from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.llm import LlmBackbone
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.exceptions import MissingExtraError, NotMergeableError, OptionsError
from mlclf.interfaces import LoadRequest
from mlclf.quantized import EightBitLinear, FourBitLinear, QuantizedLinear, count_weights, import_bitsandbytes
from mlclf.strategies.qlora import QloraStrategy
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_texts

DECODERS = ("llama", "qwen3", "gemma", "phi3", "gpt2")
ENCODERS = ("bert", "distilbert", "modernbert", "deberta-v2")
KINDS = [{}, {"bits": 8}, {"quant_type": "fp4", "double_quantisation": False}, {"use_dora": True}]
FAST = {"learning_rate": 5e-3, "head_learning_rate": 2e-2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("quantised")
    found = {name: tiny_encoder(name, root / name, layers=2) for name in ENCODERS}  # type: ignore[arg-type]
    return found | {name: tiny_decoder(name, root / name, layers=2) for name in DECODERS}  # type: ignore[arg-type]


def empty(folder: Path) -> PretrainedBackbone:
    """Return a backbone before loading."""
    if folder.name in DECODERS:
        return LlmBackbone(LlmOptions(model=str(folder), max_length=32))
    return BertBackbone(BertOptions(model=str(folder), max_length=32))


def adapted(folder: Path, **options: Any) -> tuple[PretrainedBackbone, QloraStrategy]:
    """Return a quantised backbone whose updates are not zero."""
    backbone, strategy = empty(folder), QloraStrategy(QloraOptions(r=4, **options))
    backbone.load(strategy.load_request())
    torch.manual_seed(0)
    strategy.check(backbone)
    strategy.adapt(backbone)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone, strategy


@torch.no_grad()
def states(backbone: PretrainedBackbone) -> Tensor:
    """Return the states of real tokens, in evaluation mode and without gradients."""
    backbone.model.eval()
    batch = backbone.collate(backbone.encode(["cat", *tiny_texts(4)]), np.arange(5))
    return backbone.token_states(batch)[batch.attention_mask.bool()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_merged_equals_unmerged_also_after_predictions(
    folders: dict[str, Path], name: str, kind: dict[str, Any]
) -> None:
    # On processors with AVX512-BF16, bitsandbytes' own layers give other weights after the first prediction.
    backbone, strategy = adapted(folders[name], **kind)
    before = states(backbone)
    assert torch.equal(states(backbone), before)
    strategy.merge(backbone)
    torch.testing.assert_close(states(backbone), before, rtol=1e-5, atol=1e-5)
    plain = empty(folders[name])
    plain.load(LoadRequest())
    assert list(backbone.model.state_dict()) == list(plain.model.state_dict())
    assert [type(module) for module in backbone.model.modules()] == [type(module) for module in plain.model.modules()]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["modernbert", "gpt2"])
def test_training_goes_on_after_predictions(folders: dict[str, Path], name: str, bits: int) -> None:
    backbone, strategy = adapted(folders[name], bits=bits)
    states(backbone)
    strategy.set_train_mode(backbone)
    batch = backbone.collate(backbone.encode(tiny_texts(4)), np.arange(4))
    backbone(batch).pooled.square().sum().backward()
    learning = [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]
    assert learning
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in learning)


@pytest.mark.parametrize(("bits", "nearness"), [(4, 0.9), (8, 0.999)])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_every_linear_layer_is_rounded_and_the_model_stays_near(
    folders: dict[str, Path], name: str, bits: int, nearness: float
) -> None:
    plain, rounded = empty(folders[name]), empty(folders[name])
    plain.load(LoadRequest())
    rounded.load(QloraStrategy(QloraOptions(bits=bits)).load_request())
    kind = FourBitLinear if bits == 4 else EightBitLinear
    linear = [
        name
        for layer in plain.layers()
        for name, m in layer.named_modules()
        if hasattr(m, "weight") and m.weight.ndim == 2
    ]
    assert sum(isinstance(module, kind) for module in rounded.model.modules()) == len(linear)
    assert torch.cosine_similarity(states(rounded), states(plain)).mean() > nearness
    assert count_weights(rounded.model) == count_weights(plain.model)


def test_weights_take_less_than_a_sixth_and_a_quarter_of_their_memory(tmp_path: Path) -> None:
    folder = tiny_encoder("bert", tmp_path / "bert", layers=2, hidden=128)
    backbone = empty(folder)
    for bits, share in ((4, 1 / 6), (8, 1 / 3.8)):
        backbone.load(QloraStrategy(QloraOptions(bits=bits)).load_request())
        layers = [module for module in backbone.model.modules() if isinstance(module, QuantizedLinear)]
        # Codes are the same in all layers of a model and do not grow with it.
        kept = sum(t.nbytes for layer in layers for n, t in layer.named_buffers() if "code" not in n)
        assert kept < share * 4 * sum(layer.in_features * layer.out_features for layer in layers)


def test_a_text_reads_the_same_alone_and_among_others(folders: dict[str, Path]) -> None:
    backbone, _ = adapted(folders["llama"], bits=8)
    encoded = backbone.encode(["cat", *tiny_texts(4)])
    with torch.no_grad():
        together = backbone(backbone.collate(encoded, np.arange(5))).pooled
        alone = torch.cat([backbone(backbone.collate(encoded, np.array([row]))).pooled for row in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_biases_keep_their_precision(folders: dict[str, Path]) -> None:
    backbone, _ = adapted(folders["bert"])
    before = {name: p.clone() for name, p in backbone.model.named_parameters() if name.endswith("bias")}
    with torch.autocast("cpu", torch.bfloat16):
        states(backbone)
    now = dict(backbone.model.named_parameters())
    assert all(now[name].dtype is torch.float32 and torch.equal(now[name], bias) for name, bias in before.items())


@pytest.mark.parametrize("bits", [4, 8])
def test_detaching_gives_back_the_rounded_model_bit_for_bit(folders: dict[str, Path], bits: int) -> None:
    backbone, strategy = adapted(folders["gpt2"], bits=bits)
    strategy.detach(backbone)
    fresh = empty(folders["gpt2"])
    fresh.load(strategy.load_request())
    assert torch.equal(states(backbone), states(fresh))
    assert list(backbone.model.state_dict()) == list(fresh.model.state_dict())


def test_gradients_are_those_of_the_dequantised_model(folders: dict[str, Path]) -> None:
    from mlclf.quantized import dequantize

    gradients = []
    for change in (lambda model: None, dequantize):
        backbone, _ = adapted(folders["bert"], targets="qv")
        change(backbone.model)
        backbone.model.eval()
        backbone(backbone.collate(backbone.encode(tiny_texts(4)), np.arange(4))).pooled.square().sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters() if p.requires_grad and p.grad is not None])
    assert gradients[0]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_no_dequantised_weight_is_kept_for_the_backward_pass(folders: dict[str, Path]) -> None:
    backbone, strategy = adapted(folders["bert"])
    strategy.set_train_mode(backbone)
    shapes: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (shapes.append(t.shape), t)[1], lambda t: t):
        backbone(backbone.collate(backbone.encode(tiny_texts(4)), np.arange(4)))
    weights = {(m.out_features, m.in_features) for m in backbone.model.modules() if isinstance(m, QuantizedLinear)}
    assert shapes
    assert not weights & {tuple(shape) for shape in shapes}


def test_recomputing_activations_gives_the_same_gradients(folders: dict[str, Path]) -> None:
    for name in ("bert", "llama"):
        gradients = []
        for checkpointing in (False, True):
            backbone, strategy = adapted(folders[name])
            if checkpointing:
                backbone.enable_gradient_checkpointing()
            strategy.set_train_mode(backbone)
            for module in backbone.model.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
            backbone(backbone.collate(backbone.encode(tiny_texts(4)), np.arange(4))).pooled.square().sum().backward()
            gradients.append([p.grad for p in backbone.model.parameters() if p.grad is not None])
        for left, right in zip(*gradients, strict=True):
            torch.testing.assert_close(left, right)


def test_a_damaged_update_is_not_merged(folders: dict[str, Path]) -> None:
    backbone, strategy = adapted(folders["bert"])
    next(p for p in backbone.model.parameters() if p.requires_grad).data.fill_(float("inf"))
    with pytest.raises(NotMergeableError, match="not finite"):
        strategy.merge(backbone)
    assert any(isinstance(module, QuantizedLinear) for module in backbone.model.modules())


@pytest.fixture(scope="module")
def fitted(folders: dict[str, Path]) -> MultiLabelClassifier:
    return toy_classifier(folders["bert"], QloraOptions(r=4), epochs=3, training=FAST).fit(*toy_rows())


def test_a_classifier_learns(fitted: MultiLabelClassifier) -> None:
    losses = [evaluation.train_loss for evaluation in fitted.history_.evaluations]
    assert losses[-1] < losses[0]
    assert 0 < fitted.history_.n_trainable < fitted.history_.n_parameters


@pytest.mark.parametrize("include_backbone", [False, True])
def test_a_saved_model_answers_the_same(fitted: MultiLabelClassifier, tmp_path: Path, include_backbone: bool) -> None:
    texts = toy_rows()[0]
    fitted.save(tmp_path / "model", include_backbone=include_backbone)
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(texts), fitted.predict_proba(texts), rtol=0, atol=1e-6)
    assert (tmp_path / "model" / "backbone" / "weights.safetensors").is_file() is include_backbone


def test_a_saved_model_with_its_rounded_backbone_needs_no_other_files(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    source = Path(shutil.copytree(folders["llama"], tmp_path / "llama"))
    options = QloraOptions(r=4, bits=8, lora_plus_ratio=4.0)
    backbone = LlmOptions(model=str(source), max_length=32)
    clf = toy_classifier(source, options, epochs=1, backbone=backbone).fit(*toy_rows())
    clf.save(tmp_path / "model", include_backbone=True)
    shutil.rmtree(source)
    texts = toy_rows()[0]
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(texts), clf.predict_proba(texts), rtol=0, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda clf: pickle.loads(pickle.dumps(clf))], ids=["copy", "pickle"])
def test_a_fitted_classifier_is_copied_and_pickled(fitted: MultiLabelClassifier, copied: Any) -> None:
    texts = toy_rows()[0]
    assert np.array_equal(copied(fitted).predict_proba(texts), fitted.predict_proba(texts))


def test_a_resumed_run_ends_at_the_same_weights(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from signal import SIGTERM, raise_signal

    from mlclf.exceptions import TrainingInterrupted
    from mlclf.training.step import Stepper

    rows, training = toy_rows(), {**FAST, "checkpoint_dir": str(tmp_path / "checkpoint")}
    straight = toy_classifier(folders["bert"], QloraOptions(r=4, init="eva"), training=FAST).fit(*rows)
    step, steps = Stepper.step, []

    def stop(self: Stepper, batches: Any) -> float:
        steps.append(step(self, batches))
        if len(steps) == 4:
            raise_signal(SIGTERM)
        return steps[-1]

    broken = toy_classifier(folders["bert"], QloraOptions(r=4, init="eva"), training=training)
    monkeypatch.setattr(Stepper, "step", stop)
    with pytest.raises(TrainingInterrupted):
        broken.fit(*rows)
    monkeypatch.undo()
    training["resume_from"] = training["checkpoint_dir"]
    resumed = toy_classifier(folders["bert"], QloraOptions(r=4, init="eva"), training=training).fit(*rows)
    assert np.array_equal(resumed.predict_proba(rows[0]), straight.predict_proba(rows[0]))


def test_options_can_be_searched(folders: dict[str, Path]) -> None:
    from sklearn.model_selection import GridSearchCV

    clf = toy_classifier(folders["bert"], QloraOptions(r=2), epochs=1)
    search = GridSearchCV(clf, {"strategy__bits": [4, 8]}, cv=2, scoring="f1_micro", error_score="raise")
    texts, labels = toy_rows(48)
    search.fit(texts, to_indicator(labels))
    assert {candidate["strategy__bits"] for candidate in search.cv_results_["params"]} == {4, 8}


def test_exported_answers_are_those_of_the_rounded_model(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    from mlclf.onnx import OnnxClassifier

    texts = toy_rows()[0][:20]
    report = fitted.export_onnx(tmp_path / "bundle")
    assert report.merged
    exported = OnnxClassifier(tmp_path / "bundle", "cpu").predict_proba(texts)
    np.testing.assert_allclose(exported, fitted.predict_proba(texts), atol=1e-5)


@pytest.mark.slow
def test_a_causal_model_is_exported_merged_too(folders: dict[str, Path], tmp_path: Path) -> None:
    from mlclf.onnx import OnnxClassifier

    texts, labels = toy_rows(32)
    backbone = LlmOptions(model=str(folders["llama"]), max_length=32)
    clf = toy_classifier(folders["llama"], QloraOptions(r=4), epochs=1, backbone=backbone).fit(texts, labels)
    assert clf.export_onnx(tmp_path / "bundle").merged
    exported = OnnxClassifier(tmp_path / "bundle", "cpu").predict_proba(texts)
    np.testing.assert_allclose(exported, clf.predict_proba(texts), atol=1e-5)


def test_the_original_base_is_exported_only_with_rows_to_evaluate_it_on(
    fitted: MultiLabelClassifier, folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(OptionsError, match=r"answers otherwise.*Give validation_data=\(X, Y\)"):
        fitted.export_onnx(tmp_path / "bundle", base="original")
    with pytest.raises(OptionsError, match="base must be 'fitted' or 'original', got 'float'"):
        fitted.export_onnx(tmp_path / "bundle", base="float")  # type: ignore[arg-type]
    plain = toy_classifier(folders["bert"], LoraOptions(r=2), epochs=1).fit(*toy_rows(32))
    with pytest.raises(OptionsError, match=r"strategy 'lora' did not round any\. Use base='fitted'"):
        plain.export_onnx(tmp_path / "bundle", base="original", validation_data=toy_rows(32))
    assert not (tmp_path / "bundle").exists()


def test_the_original_base_is_evaluated_and_its_thresholds_are_tuned_again(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from mlclf.onnx import OnnxClassifier
    from mlclf.onnx.original import with_original_weights

    rows, held_out = toy_rows(), toy_rows(40, seed=5)
    clf = toy_classifier(folders["bert"], QloraOptions(r=4), epochs=2, training=FAST)
    clf.fit(*rows, validation_data=held_out)
    report = clf.export_onnx(tmp_path / "bundle", base="original", validation_data=held_out)
    assert report.validation is not None
    assert report.validation.tuned_again is not None
    assert "original pretrained weights" in str(report)
    exported = OnnxClassifier(tmp_path / "bundle", "cpu")
    other = with_original_weights(clf.model_).probabilities(held_out[0])
    np.testing.assert_allclose(exported.predict_proba(held_out[0]), other, atol=1e-5)
    assert np.abs(other - clf.predict_proba(held_out[0])).max() > 1e-4
    assert exported.manifest_.metrics != clf.validation_report_


def test_in_a_chain_the_original_base_takes_all_parts(folders: dict[str, Path], tmp_path: Path) -> None:
    from mlclf.onnx.original import with_original_weights

    rows = toy_rows()
    clf = toy_classifier(folders["bert"], ["qlora", "adapter"], epochs=1, training=FAST).fit(*rows)
    clf.save(tmp_path / "model")
    expected = clf.predict_proba(rows[0])
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(rows[0]), expected, rtol=0, atol=1e-6)
    assert np.abs(with_original_weights(clf.model_).probabilities(rows[0]) - expected).max() < 0.1


def test_without_bitsandbytes_the_error_names_the_extra(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mlclf\[train\]'"):
        toy_classifier(folders["bert"], "qlora").fit(*toy_rows(32))


def test_importing_bitsandbytes_leaves_the_level_of_its_logger() -> None:
    import_bitsandbytes()
    assert logging.getLogger("bitsandbytes.backends.cpu.ops").level == logging.NOTSET


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 3}, r"QloraOptions\(bits=3\).*4 or 8"),
        ({"quant_type": "int4"}, r"quant_type='int4'\).*'nf4' or 'fp4'"),
        ({"init": "pissa"}, r"init='pissa'\).*'eva'"),
        ({"init": "orthogonal", "r": 3}, "needs an even r"),
        ({"lora_plus_ratio": 0.5}, r"lora_plus_ratio=0\.5\).*greater than or equal to 1"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        QloraOptions(**values)


@pytest.mark.slow
def test_on_real_text_it_is_as_good_as_lora(tmp_path: Path) -> None:
    from mlclf.datasets import make_feedback

    data = make_feedback(1200)
    found = {}
    for strategy in ("lora", "qlora"):
        clf = MultiLabelClassifier(
            "minilm:l6", strategy, training=TrainingOptions(epochs=2), random_state=0, verbose=0, device="cpu"
        ).fit(data.texts, data.labels)
        found[strategy] = clf.validation_report_["micro_f1"]
    assert found["qlora"] > found["lora"] - 0.05
