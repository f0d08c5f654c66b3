"""Answers before any training, and learning from few rows after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from toy import toy_classifier, toy_rows

from mlclf import LlmOptions, MultiLabelClassifier
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError, UnknownLabelError
from mlclf.heads.verbalizer import VerbalizerOptions
from mlclf.onnx import OnnxClassifier
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing import random_llama, tiny_masked_lm

NAMES = ["animals", "food", "weather", "travel"]
WORDS = {"animals": ["cat", "dog"], "food": ["bread"], "weather": ["rain", "storms"], "travel": ["train"]}
TEXTS = ["the cat eats bread", "rain", "a train to the harbour", ""]


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_masked_lm("bert", tmp_path_factory.mktemp("masked"))


def classifier(folder: Path, strategy: Any = "lora", **changes: Any) -> MultiLabelClassifier:
    return toy_classifier(folder, strategy, **{"head": VerbalizerOptions(words=WORDS), **changes})


def test_it_answers_in_every_form_without_training(masked_lm: Path) -> None:
    clf = classifier(masked_lm).zero_shot(NAMES)
    probabilities = clf.predict_proba(TEXTS)
    assert probabilities.shape == (4, 4)
    assert clf.classes_.tolist() == NAMES
    assert clf.label_counts_.tolist() == [0, 0, 0, 0]
    assert clf.history_.evaluations == []
    assert clf.validation_report_ == {}
    assert [len(row) for row in clf.predict_labels(TEXTS)] == (probabilities >= 0.5).sum(axis=1).tolist()
    assert clf.predict(TEXTS).tolist() == (probabilities >= 0.5).astype(int).tolist()
    assert clf.predict_topk(TEXTS, 2)[0].shape == (4, 2)
    assert 0 <= clf.evaluate(*toy_rows(24)).micro_f1 <= 1


def test_it_answers_the_same_every_time_whatever_the_seed(masked_lm: Path) -> None:
    first, second = (classifier(masked_lm, random_state=seed).zero_shot(NAMES).predict_proba(TEXTS) for seed in (1, 2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("strategy", ["full", "head-only", "partial", "adapter", "bitfit", "auto"])
def test_strategies_leave_the_pretrained_answers_as_they_are(strategy: str, masked_lm: Path) -> None:
    expected = classifier(masked_lm, "full").zero_shot(NAMES).predict_proba(TEXTS)
    np.testing.assert_allclose(
        classifier(masked_lm, strategy).zero_shot(NAMES).predict_proba(TEXTS), expected, atol=1e-5
    )


@pytest.mark.parametrize("loss", [spec.name for spec in BUILTINS["loss"]])
def test_every_loss_can_be_asked_for(loss: str, masked_lm: Path) -> None:
    head = VerbalizerOptions(words=WORDS, loss=loss)
    clf = classifier(masked_lm, head=head).zero_shot(NAMES)
    assert np.isfinite(clf.predict_proba(TEXTS)).all()
    assert np.isfinite(clf.partial_fit(*toy_rows(12)).predict_proba(TEXTS)).all()


@pytest.mark.parametrize(("rule", "expected"), [("per-label", 0.5), ("global", 0.5), (0.3, 0.3)])
def test_thresholds_are_half_or_the_number_given(rule: Any, expected: float, masked_lm: Path) -> None:
    clf = classifier(masked_lm, thresholds=rule).zero_shot(NAMES)
    np.testing.assert_allclose(clf.thresholds_.values, np.full(4, expected), atol=1e-7)
    clf.set_thresholds({"food": 0.9})
    assert clf.thresholds_.values[1] == np.float32(0.9)


def test_it_is_saved_and_loaded_as_a_fit_is(masked_lm: Path, tmp_path: Path) -> None:
    clf = classifier(masked_lm).zero_shot(NAMES)
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert again.history_.evaluations == []
    again.set_params(verbose=0, validation=None).partial_fit(*toy_rows(12))  # without a warning about earlier rows


@pytest.mark.slow
def test_it_is_exported_as_a_fit_is(masked_lm: Path, tmp_path: Path) -> None:
    clf = classifier(masked_lm).zero_shot(NAMES)
    clf.export_onnx(tmp_path / "onnx")
    exported = OnnxClassifier(tmp_path / "onnx").predict_proba(TEXTS)
    np.testing.assert_allclose(exported, clf.predict_proba(TEXTS), atol=1e-5)


def test_few_rows_are_learned_from_where_it_stands(masked_lm: Path) -> None:
    texts, labels = toy_rows(16)
    few_shot = {"training": {"learning_rate": 3e-3, "head_learning_rate": 3e-2}, "epochs": 15}
    clf = classifier(masked_lm, "full", **few_shot).zero_shot(NAMES)
    before = clf.evaluate(texts, labels).mean_average_precision
    clf.partial_fit(texts, labels)
    assert clf.evaluate(texts, labels).mean_average_precision > max(before, 0.8)
    assert clf.label_counts_.sum() == sum(map(len, labels))
    clf.add_labels(["garden"])
    assert clf.predict_proba(TEXTS).shape == (4, 5)


def test_a_later_fit_keeps_labels_that_its_few_rows_lack(masked_lm: Path) -> None:
    clf = classifier(masked_lm).zero_shot(NAMES)
    clf.fit(["a cat", "the dog", "some bread"], [["animals"], ["animals"], ["food"]])
    assert clf.classes_.tolist() == NAMES
    assert clone(clf).classes == NAMES


def test_heads_that_must_be_trained_are_refused(masked_lm: Path) -> None:
    with pytest.raises(IncompatibleComponentsError, match="'bce' answers only once it is trained"):
        classifier(masked_lm, head="bce").zero_shot(NAMES)


@pytest.mark.parametrize("strategy", ["prompt-tuning", "prefix", ["lora", "p-tuning-v2"]])
def test_strategies_with_random_tokens_are_refused(strategy: Any, masked_lm: Path) -> None:
    with pytest.raises(IncompatibleComponentsError, match="tokens that are random before training"):
        classifier(masked_lm, strategy).zero_shot(NAMES)


def test_descriptions_are_refused_where_nothing_reads_them(masked_lm: Path) -> None:
    with pytest.raises(IncompatibleComponentsError, match="'verbalizer' reads no descriptions"):
        classifier(masked_lm).zero_shot(NAMES, descriptions={"food": "what is eaten"})


@pytest.mark.parametrize("classes", ["animals", 3, [], ["a", "a"]])
def test_labels_are_a_list_of_names(classes: Any, masked_lm: Path) -> None:
    with pytest.raises(InvalidInputError):
        classifier(masked_lm).zero_shot(classes)


def test_a_failed_call_leaves_the_estimator_as_it_was(masked_lm: Path) -> None:
    clf = classifier(masked_lm).zero_shot(NAMES)
    before = clf.predict_proba(TEXTS)
    with pytest.raises(UnknownLabelError):
        clf.zero_shot(["garden"])
    assert clf.classes == NAMES
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)


def test_a_causal_model_is_asked_by_a_prompt_with_descriptions(tmp_path: Path) -> None:
    folder = random_llama(tmp_path / "llama", hidden=32, feed_forward=64, layers=1, heads=4, kv_heads=2)
    backbone = LlmOptions(model=str(folder), max_length=1024)
    clf = toy_classifier(tmp_path, "lora", backbone=backbone, head="prompt-generation")
    clf.zero_shot(NAMES, descriptions={"food": "what is eaten"})
    assert clf.head.prompt.descriptions == {"food": "what is eaten"}
    assert clf.predict_proba(TEXTS).shape == (4, 4)
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=1e-5)
    assert np.isfinite(clf.partial_fit(*toy_rows(8)).predict_proba(TEXTS)).all()
