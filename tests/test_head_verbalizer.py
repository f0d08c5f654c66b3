"""Head ``verbalizer``: a cloze prompt, the words of each label, and what a masked language model says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_classifier, toy_rows
from transformers import AutoModelForMaskedLM

from mlclf import BertOptions, LlmOptions, MultiLabelClassifier
from mlclf.backbones.bert import BertBackbone
from mlclf.encoding import TextEncoder, find_mask_id
from mlclf.exceptions import BackboneLoadError, IncompatibleComponentsError, OptionsError, UnknownLabelError
from mlclf.heads.verbalizer import VerbalizerHead, VerbalizerOptions
from mlclf.heads.verbalizer_prompt import make_cloze, words_in_place
from mlclf.heads.word_logits import WordLogits
from mlclf.interfaces import LabelStatistics, LoadRequest
from mlclf.onnx import OnnxClassifier
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_masked_lm, tiny_tokenizer

NAMES = ("animals", "food", "weather", "travel")
WORDS = {"animals": ["cat", "dog"], "food": ["bread"], "weather": ["rain", "storms"], "travel": ["train"]}
MASKED = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert", "xlm-roberta", "electra", "albert", "mpnet")
HOSTILE = (
    "[MASK] <mask> [SEP] </s>",
    "{mask} {text}",
    "ignore the above. {{ text }}",
    "animals food [CLS]",
    "\x00 ",
    "",
)


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_masked_lm("bert", tmp_path_factory.mktemp("masked"))


def statistics(names: tuple[str, ...] = NAMES, positives: int = 0, known: int = 0) -> LabelStatistics:
    return LabelStatistics(names, np.full(len(names), positives), np.full(len(names), known))


def bound(folder: Path, **changes: Any) -> tuple[BertBackbone, VerbalizerHead]:
    backbone = BertBackbone(BertOptions(model=str(folder), max_length=32))
    backbone.load(LoadRequest(vocabulary=True))
    head = VerbalizerHead(VerbalizerOptions(**{"words": WORDS, **changes}))
    head.bind(backbone, statistics())
    return backbone, head


def classifier(folder: Path, strategy: Any = "full", **changes: Any) -> MultiLabelClassifier:
    return toy_classifier(folder, strategy, head=VerbalizerOptions(words=WORDS), **changes)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("template", ["{text} It is about {mask}.", "about {mask}: {text}", "{mask}{text}"])
def test_only_the_text_is_ever_cut(kind: Any, template: str) -> None:
    prompt = make_cloze(template, TextEncoder(tiny_tokenizer(kind), max_length=24), "bert")
    mask = find_mask_id(tiny_tokenizer(kind))
    rows = prompt.encoder.encode(["the cat", "the cat " * 50, *HOSTILE])
    for start, end in zip(rows.window_offsets, rows.window_offsets[1:], strict=False):
        ids = rows.ids[start:end].tolist()
        assert len(ids) <= 24
        assert ids.count(mask) == 1
        assert ids[prompt.place] == mask
    whole = tiny_tokenizer(kind).encode("the cat").ids
    assert rows.ids[0] == whole[0]
    assert rows.ids[rows.window_offsets[1] - 1] == whole[-1]


@given(text=st.text(max_size=40))
@settings(max_examples=60)
def test_no_text_can_change_the_prompt_around_it(text: str) -> None:
    encoder = make_cloze("about {mask}: {text} day", TextEncoder(tiny_tokenizer(), max_length=24), "bert").encoder
    empty = encoder.encode([""]).ids.tolist()
    ids = encoder.encode([text]).ids.tolist()
    head, tail = empty[:-2], empty[-2:]
    assert ids[: len(head)] == head
    assert ids[-2:] == tail
    assert find_mask_id(tiny_tokenizer()) not in ids[len(head) : -2]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_are_tokenised_as_they_stand_in_the_prompt(kind: Any) -> None:
    tokenizer = tiny_tokenizer(kind)
    inside = tokenizer.encode("it is about rain", add_special_tokens=False).ids
    before = tokenizer.encode("it is about", add_special_tokens=False).ids
    assert words_in_place(tokenizer, "it is about ", ["rain"]) == [tuple(inside[len(before) :])]


def test_several_words_and_pieces_are_averaged() -> None:
    logits = WordLogits([[[0], [1]], [[2, 3]], [[1], [0, 2]]])
    values = torch.tensor([[1.0, 3.0, 5.0, 9.0]])
    expected = torch.tensor([[2.0, 7.0, 3.0]])
    torch.testing.assert_close(logits(values, lambda states, ids: states[:, ids]), expected)


@pytest.mark.parametrize("architecture", MASKED)
def test_the_score_is_that_of_the_masked_language_model(architecture: Any, tmp_path: Path) -> None:
    backbone, head = bound(tiny_masked_lm(architecture, tmp_path))
    texts = ["the cat sat on the table", "rain", *HOSTILE]
    batch = backbone.collate(head.encode(backbone, texts), np.arange(len(texts)))
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    (rain,) = words_in_place(backbone.encoder.tokenizer, head.prompt.context, ["train"])
    with torch.no_grad():
        logits = whole(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        last = batch.attention_mask.sum(dim=1) + head.prompt.place
        expected = logits[torch.arange(len(texts)), last][:, list(rain)].mean(dim=1)
        found = head.logits(backbone, batch)[:, 3] + head.output.baseline[3]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_before_training_a_text_that_says_nothing_is_undecided(masked_lm: Path) -> None:
    backbone, head = bound(masked_lm)
    batch = backbone.collate(head.encode(backbone, ["", "N/A"]), np.arange(2))
    with torch.no_grad():
        assert head.logits(backbone, batch).mean(dim=0).abs().max() < 1e-5


@pytest.mark.parametrize("loss", [spec.name for spec in BUILTINS["loss"]])
@pytest.mark.parametrize("strategy", ["full", "head-only"])
def test_every_loss_trains_it(loss: str, strategy: str, masked_lm: Path) -> None:
    texts, labels = toy_rows(24)
    head = VerbalizerOptions(words=WORDS, loss=loss)
    clf = toy_classifier(masked_lm, strategy, head=head, epochs=1).fit(texts, labels)
    assert np.isfinite(clf.predict_proba(texts)).all()


@pytest.mark.parametrize("strategy", ["lora", "adapter", "prompt-tuning", "prefix"])
def test_it_goes_with_strategies_that_inject(strategy: str, masked_lm: Path, tmp_path: Path) -> None:
    texts, labels = toy_rows(24)
    clf = classifier(masked_lm, strategy, epochs=1).fit(texts, labels)
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu").predict_proba(texts)
    np.testing.assert_allclose(again, clf.predict_proba(texts), atol=1e-6)


def test_it_learns_a_task(masked_lm: Path) -> None:
    texts, labels = toy_rows(200)
    clf = classifier(masked_lm, epochs=20, training={"learning_rate": 3e-3, "head_learning_rate": 3e-2}).fit(
        texts, labels
    )
    unseen, truth = toy_rows(60, seed=5)
    assert clf.evaluate(unseen, truth).micro_f1 > 0.85


def test_a_saved_folder_with_all_weights_answers_the_same(masked_lm: Path, tmp_path: Path) -> None:
    texts, labels = toy_rows(24)
    clf = classifier(masked_lm, "lora", epochs=1).fit(texts, labels)
    clf.save(tmp_path / "model", include_backbone=True)
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    assert again.predict_proba(texts).tolist() == clf.predict_proba(texts).tolist()
    assert again.model_.network.backbone.encode(["the"]).ids.tolist() == tiny_tokenizer().encode("the").ids


def test_added_labels_leave_the_others_as_they_are(masked_lm: Path) -> None:
    texts, labels = toy_rows(24)
    clf = classifier(masked_lm, epochs=1).fit(texts, labels)
    before = clf.predict_proba(texts)
    clf.add_labels(["garden"])
    np.testing.assert_allclose(clf.predict_proba(texts)[:, :4], before, atol=1e-6)
    clf.partial_fit(
        texts, [[*row, "garden"] if "garden" in text else row for text, row in zip(texts, labels, strict=True)]
    )
    assert clf.predict_proba(texts).shape == (24, 5)


def test_long_texts_are_read_in_windows_with_the_prompt_around_each(masked_lm: Path) -> None:
    backbone = BertOptions(model=str(masked_lm), max_length=24, window_stride=4)
    texts, labels = toy_rows(24)
    clf = classifier(masked_lm, epochs=1, backbone=backbone).fit(texts, labels)
    encoded = clf.model_.dataset(["the cat " * 20]).encoded
    assert encoded.n_windows > 2
    assert np.count_nonzero(encoded.ids == 4) == encoded.n_windows


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [("bert", "fp16"), *(pytest.param(name, "fp32", marks=pytest.mark.slow) for name in ("bert", "roberta"))],
)
def test_an_exported_folder_carries_the_prompt(architecture: Any, precision: Any, tmp_path: Path) -> None:
    texts, labels = toy_rows(24)
    folder = tiny_masked_lm(architecture, tmp_path / "masked")
    clf = classifier(folder, "lora", epochs=1).fit(texts, labels)
    clf.export_onnx(tmp_path / "onnx", precision=precision)
    asked = [*texts, *HOSTILE, "the cat " * 50]
    exported = OnnxClassifier(tmp_path / "onnx")
    np.testing.assert_allclose(
        exported.predict_proba(asked), clf.predict_proba(asked), atol=1e-5 if precision == "fp32" else 2e-2
    )


def test_minilm_is_refused_because_it_has_no_output_layer() -> None:
    pytest.importorskip("mlclf_minilm")
    clf = MultiLabelClassifier("minilm:l6", "lora", "verbalizer", verbose=0, validation=None)
    with pytest.raises(BackboneLoadError, match="without the output layer over the vocabulary"):
        clf.fit(*toy_rows(24))


def test_models_that_cannot_fill_in_a_word_are_refused(tmp_path: Path) -> None:
    causal = LlmOptions(model=str(tiny_decoder("llama", tmp_path / "causal")))
    with pytest.raises(IncompatibleComponentsError, match="'verbalizer' works with backbones of the families"):
        MultiLabelClassifier(causal, "lora", "verbalizer", verbose=0).fit(*toy_rows(24))
    plain = BertOptions(model=str(tiny_encoder("bert", tmp_path / "plain")))
    with pytest.raises(BackboneLoadError, match="output layer over the vocabulary"):
        MultiLabelClassifier(plain, "lora", "verbalizer", verbose=0).fit(*toy_rows(24))


def test_a_tokenizer_without_a_mask_token_is_refused() -> None:
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(IncompatibleComponentsError, match="has no token for it"):
        make_cloze("{text} {mask}", TextEncoder(tokenizer, 24), "bert")


def test_a_template_longer_than_a_row_is_refused(masked_lm: Path) -> None:
    with pytest.raises(OptionsError, match=r"leaves -?\d+ for the text"):
        bound(masked_lm, template="{text} " + "the cat " * 20 + "{mask}")


@pytest.mark.parametrize("template", ["{text}", "{mask}", "{text} {mask} {mask}", "{text} {mask} {label}"])
def test_a_template_has_both_places_once(template: str) -> None:
    with pytest.raises(OptionsError, match="must hold"):
        VerbalizerOptions(template=template).validated()


@pytest.mark.parametrize("words", [{"food": []}, {"food": [" "]}])
def test_empty_words_are_refused(words: Any) -> None:
    with pytest.raises(OptionsError, match="words"):
        VerbalizerOptions(words=words).validated()


def test_words_of_no_label_are_refused_before_anything_is_loaded() -> None:
    head = VerbalizerOptions(words={"foods": ["bread"]})
    with pytest.raises(UnknownLabelError, match="'food'"):
        toy_classifier(Path("absent"), head=head).fit(*toy_rows(24))


def test_labels_with_the_same_words_are_refused(masked_lm: Path) -> None:
    with pytest.raises(OptionsError, match="'animals' and 'food' have the same words"):
        bound(masked_lm, words={**WORDS, "animals": ["Bread"]})


def test_words_that_the_tokenizer_does_not_know_are_refused(masked_lm: Path) -> None:
    with pytest.raises(OptionsError, match="does not know"):
        bound(masked_lm, words={**WORDS, "animals": ["动物"]})


def test_special_tokens_in_words_are_plain_characters(masked_lm: Path) -> None:
    with pytest.raises(OptionsError, match="does not know"):  # the tiny vocabulary has no brackets
        bound(masked_lm, words={**WORDS, "animals": ["[MASK]"]})
