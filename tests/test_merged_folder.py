"""``merge_and_save`` writes a folder that transformers loads, and that computes what the fitted model computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import WordBackbone, WordOptions, toy_classifier, toy_rows
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from typer.testing import CliRunner

from mlclf import (
    BertOptions,
    LlmOptions,
    LoraOptions,
    MultiLabelClassifier,
    QloraOptions,
    pretrain_lm,
    register_backbone,
    register_head,
)
from mlclf.cli.app import app
from mlclf.exceptions import ExportError, IncompatibleComponentsError, NotFittedError, NotMergeableError, OptionsError
from mlclf.interfaces import Backbone, BackboneOutput, Batch, HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import BceLoss
from mlclf.options import Options
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_masked_lm, tiny_texts

FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
RATES = {"learning_rate": 2e-2, "head_learning_rate": 2e-2}


class WordsOptions(Options):
    """Options of :class:`Words`."""

    component = "local:words-of-vocabulary"


class Words(LogitsHead):
    """Scores each label by the logit of one token of the vocabulary; what learns is the backbone."""

    Options = WordsOptions
    capabilities = HeadCapabilities(vocabulary=True, export=False)

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Take a token for each label."""
        self.token_ids = torch.arange(10, 10 + labels.n_labels)
        self.loss = BceLoss()
        self.documents: dict[str, Any] = {"prompt.json": {"labels": list(labels.names), "说": "é"}}

    def logits(self, backbone: Backbone, batch: Batch) -> torch.Tensor:
        """Return the logits of those tokens at the pooled state."""
        assert backbone.vocabulary is not None
        logits: torch.Tensor = backbone.vocabulary(backbone(batch).pooled, self.token_ids)
        return logits

    def features_to_logits(self, output: BackboneOutput) -> torch.Tensor:
        """Never called."""
        raise NotImplementedError

    def prompt_files(self) -> dict[str, Any]:
        """Return a document."""
        return self.documents


register_head(Words, name="local:words-of-vocabulary")


def fitted(folder: Path, strategy: Any = "lora", head: Any = "bce", **backbone: Any) -> MultiLabelClassifier:
    """Return a classifier whose backbone has moved visibly."""
    llm = LlmOptions(model=str(folder), **{"max_length": 64, **backbone})
    return toy_classifier(folder, strategy, head=head, backbone=llm, training=RATES).fit(*toy_rows(48))


def logits_of(clf: MultiLabelClassifier, texts: list[str]) -> torch.Tensor:
    """Return the fitted model's logits of all tokens of the vocabulary."""
    backbone = clf.model_.network.backbone
    assert backbone.vocabulary is not None
    batch = backbone.collate(backbone.encode(texts), np.arange(len(texts)))
    with torch.no_grad():
        logits: torch.Tensor = backbone.vocabulary(backbone.token_states(batch)[batch.attention_mask.bool()])
    return logits


def logits_from(folder: Path, texts: list[str], kind: Any = AutoModelForCausalLM) -> torch.Tensor:
    """Return the logits that transformers computes with model and tokenizer of a folder."""
    model, loading = kind.from_pretrained(folder, output_loading_info=True, trust_remote_code=False)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt", padding_side="right")
    with torch.no_grad():
        output = model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    values: torch.Tensor = output.logits if "logits" in output else output.last_hidden_state
    return values[batch.attention_mask.bool()]


@pytest.mark.parametrize(
    ("architecture", "strategy"),
    [
        ("llama", LoraOptions(r=4)),
        ("llama", QloraOptions(r=4)),
        ("qwen3", QloraOptions(bits=8)),
        ("gemma", "full"),  # whose output layer is its embedding table
        ("gemma2", LoraOptions(r=4)),  # which caps its logits
        ("gpt2", LoraOptions(r=4)),
        ("glm", ["lora", "ia3"]),
    ],
)
def test_logits_of_the_folder_are_those_of_the_fitted_model(tmp_path: Path, architecture: Any, strategy: Any) -> None:
    clf = fitted(tiny_decoder(architecture, tmp_path / "base"), strategy, WordsOptions())
    texts = [*tiny_texts(4), "<s> typed, not meant"]
    expected = logits_of(clf, texts)
    clf.merge_and_save(tmp_path / "merged")
    assert torch.equal(logits_of(clf, texts), expected)  # the model stays as it is
    found = logits_from(tmp_path / "merged", texts[:4])
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, logits_from(tmp_path / "base", texts[:4]), atol=1e-2)


def test_the_folder_holds_files_of_transformers_and_the_documents_of_the_head(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "lora", WordsOptions())
    clf.merge_and_save(tmp_path / "merged")
    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == sorted([*FILES, "prompt.json"])
    prompt = (tmp_path / "merged" / "prompt.json").read_text(encoding="utf-8")
    assert json.loads(prompt) == {"labels": list(clf.classes_), "说": "é"}
    assert "说" in prompt
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "float32"
    assert config.get("use_cache", True)
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["use_cache"] is True


def test_a_quantised_base_leaves_no_trace(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "qlora", WordsOptions())
    clf.merge_and_save(tmp_path / "merged")
    assert "quantization" not in (tmp_path / "merged" / "config.json").read_text()
    names = [set(load_file(tmp_path / folder / "model.safetensors")) for folder in ("merged", "base")]
    assert names[0] == names[1]


def test_weights_may_be_written_in_16_bits(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("qwen2", tmp_path / "base"), "lora", WordsOptions(), dtype="bfloat16")
    for dtype in ("bfloat16", "float16"):
        clf.merge_and_save(tmp_path / dtype, dtype=dtype)  # type: ignore[arg-type]
        model = AutoModelForCausalLM.from_pretrained(tmp_path / dtype, dtype="auto")
        assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}


def test_a_shared_output_layer_is_written_once(tmp_path: Path) -> None:
    made = pretrain_lm(
        tiny_texts(64), tmp_path / "lm", hidden=32, layers=1, vocabulary=300, epochs=1, random_state=0, verbose=0
    )
    clf = fitted(made.folder, "full", WordsOptions())
    clf.merge_and_save(tmp_path / "merged")
    assert "lm_head.weight" not in load_file(tmp_path / "merged" / "model.safetensors")
    texts = tiny_texts(4)
    torch.testing.assert_close(logits_from(tmp_path / "merged", texts), logits_of(clf, texts), rtol=1e-3, atol=1e-4)
    again = LlmOptions(model=str(tmp_path / "merged"), max_length=32)  # and is a backbone like any other
    toy_classifier(tmp_path, "lora", backbone=again, head=WordsOptions()).fit(*toy_rows(32))


def test_without_a_head_over_the_vocabulary_the_layers_alone_are_written(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "lora", "bce")
    clf.merge_and_save(tmp_path / "merged")
    texts = tiny_texts(4)
    backbone = clf.model_.network.backbone
    batch = backbone.collate(backbone.encode(texts), np.arange(4))
    with torch.no_grad():
        expected = backbone.token_states(batch)[batch.attention_mask.bool()]
    torch.testing.assert_close(logits_from(tmp_path / "merged", texts, AutoModel), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", ["bce", WordsOptions()])
def test_encoders_are_written_too(tmp_path: Path, head: Any) -> None:
    make, kind = (tiny_encoder, AutoModel) if head == "bce" else (tiny_masked_lm, AutoModelForMaskedLM)
    backbone = BertOptions(model=str(make("bert", tmp_path / "base")), max_length=32)
    clf = toy_classifier(tmp_path, "lora", head=head, backbone=backbone, training=RATES).fit(*toy_rows(48))
    clf.merge_and_save(tmp_path / "merged")
    model, loading = kind.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert model.config.architectures == ["BertModel" if head == "bce" else "BertForMaskedLM"]
    assert not [name for name in loading["missing_keys"] if "pooler" not in name]


def test_a_saved_and_loaded_model_is_merged_like_a_fitted_one(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "qlora", WordsOptions())
    clf.save(tmp_path / "model")
    MultiLabelClassifier.load(tmp_path / "model", device="cpu").merge_and_save(tmp_path / "loaded")
    clf.merge_and_save(tmp_path / "fitted")
    for name in ("model.safetensors", "config.json", "prompt.json"):
        assert (tmp_path / "loaded" / name).read_bytes() == (tmp_path / "fitted" / name).read_bytes()


@pytest.mark.parametrize("strategy", ["prompt-tuning", "adapter", ["lora", "prefix"]])
def test_what_no_plain_weights_express_is_refused(tmp_path: Path, strategy: Any) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), strategy, max_length=32)
    with pytest.raises(NotMergeableError, match=r"cannot be merged into plain weights.*Use save\(folder\).*'lora'"):
        clf.merge_and_save(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_backbone_that_computes_otherwise_than_its_files_say_leaves_nothing_behind(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "lora", bidirectional=True, pooling="mean")
    with pytest.raises(ExportError, match=r"something else from the merged folder.*bidirectional=True"):
        clf.merge_and_save(tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlclf.merged_folder._merged", lambda model: pytest.fail("work was done"))
    base = tiny_decoder("llama", tmp_path / "base")
    with pytest.raises(NotFittedError):
        toy_classifier(base).merge_and_save(tmp_path / "merged")
    clf = fitted(base)
    with pytest.raises(OptionsError, match=r"is not empty.*Give a new folder name"):
        clf.merge_and_save(base)
    with pytest.raises(OptionsError, match="dtype must be one of 'float32', 'bfloat16', 'float16', got 'fp8'"):
        clf.merge_and_save(tmp_path / "merged", dtype="fp8")  # type: ignore[arg-type]


def test_a_backbone_that_is_not_of_transformers_is_refused(tmp_path: Path) -> None:

    register_backbone(WordBackbone, name="local:words")
    clf = toy_classifier(tmp_path, "full", backbone=WordOptions()).fit(["f0v1", "f1v2"] * 8, [["a"], ["b"]] * 8)
    with pytest.raises(IncompatibleComponentsError, match=r"writes models of transformers.*Use save\(folder\)"):
        clf.merge_and_save(tmp_path / "merged")


def test_a_head_that_answers_in_tokens_is_sent_here_by_the_export_to_onnx(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "lora", WordsOptions())
    with pytest.raises(IncompatibleComponentsError, match=r"cannot be exported to ONNX.*merge_and_save\(folder\)"):
        clf.export_onnx(tmp_path / "bundle")


def test_the_command_line_merges_a_saved_model(tmp_path: Path) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"))
    clf.save(tmp_path / "model")
    arguments = ["merge", str(tmp_path / "model"), str(tmp_path / "merged"), "--dtype", "bfloat16"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    assert "is not empty" in CliRunner().invoke(app, arguments).output


@pytest.mark.parametrize("name", ["config.json", "../prompt.json", "prompt.txt"])
def test_documents_of_a_head_overwrite_nothing(tmp_path: Path, name: str) -> None:
    clf = fitted(tiny_decoder("llama", tmp_path / "base"), "lora", WordsOptions())
    clf.model_.network.head.documents = {name: {}}  # type: ignore[assignment]
    with pytest.raises(ExportError, match="needs a name of its own"):
        clf.merge_and_save(tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
