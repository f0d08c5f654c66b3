"""Head ``label-query`` with the model's own yes or no behind every label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows
from transformers import AutoModelForCausalLM

from mlclf import BertOptions, LlmOptions, MultiLabelClassifier
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.heads.label_query import LabelQueryOptions
from mlclf.onnx import OnnxClassifier
from mlclf.testing import tiny_decoder, tiny_masked_lm

NAMES = ["cat", "rain", "soup"]
TEXTS = ["the cat eats", "rain and wind today", "[MASK] yes no </s>", ""]
HEAD = LabelQueryOptions(scorer="verbalizer", yes=["good"], no=["bad"])


@pytest.fixture(scope="module", params=["bert", "roberta", "llama", "qwen2"])
def backbone(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("models") / request.param
    if request.param in ("bert", "roberta"):
        return BertOptions(model=str(tiny_masked_lm(request.param, folder)), max_length=32)
    return LlmOptions(model=str(tiny_decoder(request.param, folder)), max_length=32)


def classifier(backbone: Any, **changes: Any) -> MultiLabelClassifier:
    return toy_classifier(Path(), "lora", **{"backbone": backbone, "head": HEAD, **changes})


def test_it_answers_before_training_and_learns_after_it(backbone: Any, tmp_path: Path) -> None:
    clf = classifier(backbone).zero_shot(NAMES)
    before = clf.predict_proba(TEXTS)
    assert np.isfinite(before).all()
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(TEXTS), before, atol=1e-6)
    clf.add_labels(["train"])
    np.testing.assert_allclose(clf.predict_proba(TEXTS)[:, :3], before, atol=1e-5)
    clf.partial_fit(["the cat", "rain"], [["cat"], ["rain"]])
    assert np.isfinite(clf.predict_proba(TEXTS)).all()


def test_a_text_that_says_nothing_is_undecided(backbone: Any) -> None:
    model = classifier(backbone).zero_shot(NAMES).model_
    dataset = model.dataset(["", "N/A"])
    with torch.no_grad():
        logits = model.network.head.logits(model.network.backbone, dataset.batch(np.arange(2)))  # type: ignore[operator]
    assert logits.mean(dim=0).abs().max() < 1e-5


def test_descriptions_are_read(backbone: Any) -> None:
    plain = classifier(backbone).zero_shot(NAMES).predict_proba(TEXTS)
    told = classifier(backbone).zero_shot(NAMES, descriptions={"soup": "food"}).predict_proba(TEXTS)
    np.testing.assert_allclose(told[:, :2], plain[:, :2], atol=1e-5)
    assert np.abs(told[:3, 2] - plain[:3, 2]).max() > 1e-7


def test_the_evidence_is_the_causal_model_s_next_token(tmp_path: Path) -> None:
    folder = tiny_decoder("llama", tmp_path)
    clf = classifier(LlmOptions(model=str(folder), max_length=32)).zero_shot(NAMES)
    model = clf.model_
    head: Any = model.network.head
    tokenizer = model.network.backbone.encoder.tokenizer
    batch = model.dataset(["the cat eats"]).batch(np.arange(1))
    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    row = head.branches.rows[1]
    yes, no = (tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in ("good", "bad"))
    with torch.no_grad():
        ids = torch.cat([batch.input_ids, torch.tensor([row])], dim=1)
        logits = whole(input_ids=ids).logits[0, -1]
        found = head.logits(model.network.backbone, batch)[0, 1] + head.yes_no.output.baseline[1]
    torch.testing.assert_close(found, logits[yes].mean() - logits[no].mean(), rtol=1e-4, atol=1e-4)


def test_the_linear_scorer_is_refused_without_training(backbone: Any) -> None:
    with pytest.raises(IncompatibleComponentsError, match="'label-query' answers only once it is trained"):
        classifier(backbone, head="label-query").zero_shot(NAMES)


def test_it_is_trained_from_the_start_too(backbone: Any) -> None:
    clf = classifier(backbone, epochs=1).fit(*toy_rows(16))
    assert np.isfinite(clf.predict_proba(TEXTS)).all()


@torch.no_grad()
def spread(clf: MultiLabelClassifier) -> MultiLabelClassifier:
    """Make the answers of a random model differ, so that a wrong graph cannot look right."""
    head: Any = clf.model_.network.head
    output = head.yes_no.output
    answers = clf.decision_function(TEXTS)
    output.scale.mul_(3 / (answers - answers.mean(axis=0)).std())
    output.bias.sub_(torch.from_numpy(clf.decision_function(TEXTS).mean(axis=0)))
    assert np.ptp(clf.predict_proba(TEXTS)) > 0.5
    return clf


def make_backbone(architecture: Any, folder: Path) -> Any:
    if architecture in ("llama", "gemma2"):
        return LlmOptions(model=str(tiny_decoder(architecture, folder)), max_length=32)
    return BertOptions(model=str(tiny_masked_lm(architecture, folder)), max_length=32)


@pytest.mark.parametrize(
    ("architecture", "precision", "allowed"),
    [
        ("bert", "fp32", 1e-5),
        *(
            pytest.param(architecture, precision, allowed, marks=pytest.mark.slow)
            for architecture in ("llama", "bert")
            for precision, allowed in (("fp32", 1e-5), ("fp16", 2e-2), ("int8", 5e-2))
            if (architecture, precision) != ("bert", "fp32")
        ),
        # Logits behind a soft cap.
        pytest.param("gemma2", "fp32", 1e-5, marks=pytest.mark.slow),
        # Labels that are read in rows of their own. The answers of the random model lie so close together that
        # spreading them makes its own rounding 7e-5 (float32 against float64, in PyTorch).
        pytest.param("deberta-v2", "fp32", 3e-4, marks=pytest.mark.slow),
    ],
)
def test_the_runtime_gives_the_probabilities_of_the_model(
    architecture: str, precision: Any, allowed: float, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    clf = spread(classifier(make_backbone(architecture, tmp_path / "model")).zero_shot(NAMES))
    clf.export_onnx(tmp_path / "onnx", precision=precision, labels_output=True)
    exported = OnnxClassifier(tmp_path / "onnx")
    asked = [*TEXTS, "the cat " * 40]
    np.testing.assert_allclose(exported.predict_proba(asked), clf.predict_proba(asked), atol=allowed)
    if precision == "fp32":
        assert exported.predict_labels(asked) == clf.predict_labels(asked)


@pytest.mark.slow
def test_what_was_learned_and_windows_are_exported_too(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    options = make_backbone("llama", tmp_path / "model").replace(max_length=24, window_stride=4)
    clf = spread(classifier(options, epochs=1).fit(*toy_rows(32)))
    clf.export_onnx(tmp_path / "onnx")
    asked = [*TEXTS, "the cat and the rain " * 20]
    found = OnnxClassifier(tmp_path / "onnx").predict_proba(asked)
    np.testing.assert_allclose(found, clf.predict_proba(asked), atol=1e-5)
