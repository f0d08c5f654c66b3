"""``pretrain_lm`` makes a small language model from texts alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from mlclf import BertOptions, LlmOptions, MultiLabelClassifier, pretrain_lm
from mlclf.backbones.llm import LlmBackbone
from mlclf.datasets import make_feedback
from mlclf.encoding import TextEncoder
from mlclf.exceptions import InvalidInputError, NonFiniteLossError, OptionsError, TrainingInterrupted
from mlclf.interfaces import LoadRequest
from mlclf.pretraining.language_model import PretrainingReport
from mlclf.pretraining.objectives import HiddenTokens, NextToken
from mlclf.pretraining.tokenizer import CAUSAL, MASKED, train_tokenizer
from mlclf.testing import tiny_texts

SMALL: dict[str, Any] = {
    "hidden": 32,
    "layers": 1,
    "vocabulary": 320,
    "max_length": 64,
    "random_state": 0,
    "verbose": 0,
}
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
HOSTILE = ["<s> </s> <pad> and [MASK] [CLS] [SEP] [PAD]", "", "\n\t ", "多标签文本分类 🙂", "a\x00b <s><s></s>"] * 4


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> PretrainingReport:
    folder = tmp_path_factory.mktemp("pretrained") / "lm"
    return pretrain_lm(tiny_texts(160), folder, epochs=4, **SMALL)


def test_the_loss_falls_below_that_of_guessing(report: PretrainingReport) -> None:
    assert report.losses[-1] < report.losses[0] < np.log(report.vocabulary)
    assert len(report.losses) == 4


def test_the_report_counts_tokens_and_weights(report: PretrainingReport) -> None:
    model = AutoModelForCausalLM.from_pretrained(report.folder)
    assert report.n_weights == sum(p.numel() for p in model.parameters())
    encoder = TextEncoder(AutoTokenizer.from_pretrained(report.folder).backend_tokenizer, 64)
    texts = tiny_texts(160)
    assert report.n_tokens == len(encoder.encode(texts).ids) + len(texts)  # and one behind each text


def test_the_folder_holds_a_model_of_transformers_with_its_tokenizer(report: PretrainingReport) -> None:
    assert sorted(path.name for path in report.folder.iterdir()) == FILES
    model, tokenizer = (
        kind.from_pretrained(report.folder, trust_remote_code=False) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    ids = tokenizer("the cat", return_tensors="pt").input_ids
    loss = model(input_ids=ids, labels=ids).loss
    assert 0 < loss < np.log(report.vocabulary)
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<s>", "</s>")
    assert [model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id] == [0, 1, 2]


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_the_backbone_llm_learns_on_it(report: PretrainingReport, tmp_path: Path, strategy: str) -> None:
    backbone = LlmOptions(model=str(report.folder), max_length=32)
    clf = toy_classifier(report.folder, strategy, backbone=backbone).fit(*toy_rows(48))
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model", device="cpu")
    texts = tiny_texts(8)
    np.testing.assert_allclose(again.predict_proba(texts), clf.predict_proba(texts), atol=1e-6)


def test_the_output_layer_over_the_vocabulary_is_there(report: PretrainingReport) -> None:
    backbone = LlmBackbone(LlmOptions(model=str(report.folder)))
    backbone.load(LoadRequest(vocabulary=True))
    assert backbone.vocabulary is not None
    batch = backbone.collate(backbone.encode(["the cat"]), np.array([0]))
    with torch.no_grad():
        logits = backbone.vocabulary(backbone.token_states(batch)[0])
        expected = AutoModelForCausalLM.from_pretrained(report.folder)(batch.input_ids).logits[0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_files(report: PretrainingReport, tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    again = pretrain_lm(tiny_texts(160), tmp_path / "again", epochs=4, **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    for name in FILES:
        assert (again.folder / name).read_bytes() == (report.folder / name).read_bytes()
    other = pretrain_lm(tiny_texts(160), tmp_path / "other", epochs=4, **{**SMALL, "random_state": 1})
    assert other.losses != report.losses


def test_a_masked_model_is_a_bert_with_its_output_layer(tmp_path: Path) -> None:
    made = pretrain_lm(tiny_texts(160), tmp_path / "bert", kind="masked", epochs=4, **SMALL)
    assert made.losses[-1] < made.losses[0]
    model, loading = AutoModelForMaskedLM.from_pretrained(made.folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert model.config.model_type == "bert"
    assert AutoTokenizer.from_pretrained(made.folder).mask_token == "[MASK]"
    backbone = BertOptions(model=str(made.folder), max_length=32)
    clf = toy_classifier(made.folder, "lora", backbone=backbone).fit(*toy_rows(48))
    assert np.isfinite(clf.predict_proba(tiny_texts(2))).all()


@pytest.mark.parametrize("special", [CAUSAL, MASKED])
def test_special_tokens_in_texts_are_ordinary_characters(special: Any) -> None:
    encoder = TextEncoder(train_tokenizer(HOSTILE * 50, 600, special), max_length=64)
    tokenizer = encoder.tokenizer
    added = {tokenizer.token_to_id(name) for name in special.names}
    around = 1 + special.last_after_text
    encoded = encoder.encode(HOSTILE)
    for row, text in enumerate(HOSTILE):
        ids = encoded.ids[slice(*encoded.window_offsets[row : row + 2])].tolist()
        assert sum(i in added for i in ids) == around
        assert tokenizer.decode(ids[1 : len(ids) - around + 1], skip_special_tokens=False) == text


def test_hostile_texts_are_learned_from(tmp_path: Path) -> None:
    for kind in ("causal", "masked"):
        made = pretrain_lm(HOSTILE, tmp_path / kind, kind=kind, epochs=1, **SMALL)  # type: ignore[arg-type]
        assert np.isfinite(made.losses).all()


def test_long_texts_are_read_to_their_end(tmp_path: Path) -> None:
    texts = [" ".join(tiny_texts(30, seed=seed)) for seed in range(4)]
    made = pretrain_lm(texts, tmp_path / "lm", epochs=1, **SMALL)
    encoder = TextEncoder(AutoTokenizer.from_pretrained(made.folder).backend_tokenizer, 100_000)
    assert made.n_tokens >= len(encoder.encode(texts).ids) > 64 * len(texts)


def test_a_token_that_ends_the_text_stands_behind_its_last_window() -> None:
    encoder = TextEncoder(train_tokenizer(["aa bb"], 300, CAUSAL), max_length=4, window_stride=0)
    encoded = encoder.encode(["abcde", "", "ab"])
    rows = NextToken(last_id=2).rows(encoded)
    windows = [rows.ids[a:b].tolist() for a, b in zip(rows.window_offsets[:-1], rows.window_offsets[1:], strict=True)]
    assert [window.count(2) for window in windows] == [0, 1, 1, 1]
    assert all(window[0] == 1 for window in windows)
    assert windows[2] == [1, 2]
    assert rows.sample_lengths.tolist() == [n + 1 for n in encoded.sample_lengths]


def test_about_a_seventh_of_the_tokens_is_predicted_and_most_of_it_hidden() -> None:
    objective = HiddenTokens(mask_id=3, special_ids=(0, 1, 2, 3), n_tokens=50)
    ids = np.random.default_rng(0).integers(4, 50, size=(200, 60))
    ids[:, 0], ids[:, 50:] = 1, 0
    mask = ids != 0
    read, targets = objective.hide(ids, mask, np.random.default_rng(1))
    chosen = targets != -100
    assert not chosen[:, 0].any()
    assert not chosen[:, 50:].any()
    assert abs(chosen[:, 1:50].mean() - 0.15) < 0.01
    assert abs((read[chosen] == 3).mean() - 0.8) < 0.03
    assert (read[~chosen] == ids[~chosen]).all()
    assert (targets[chosen] == ids[chosen]).all()
    assert (read[mask & (ids > 3)] >= 3).all()


def test_a_folder_that_holds_something_is_refused_before_any_work(
    report: PretrainingReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        pytest.fail("work was done")

    monkeypatch.setattr("mlclf.pretraining.language_model.train_tokenizer", fail)
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, report.folder):
        with pytest.raises(OptionsError, match=r"is not empty.*Give a new folder name"):
            pretrain_lm(["a"], folder, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 40}, "hidden=40.*multiple of 32"),
        ({"kind": "seq2seq"}, "kind='seq2seq'.*'causal' or 'masked'"),
        ({"vocabulary": 100}, "vocabulary=100"),
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"layers": 0}, "layers=0"),
        ({"max_length": 2}, "max_length=2"),
        ({"device": "tpu?"}, "device='tpu\\?' cannot be used"),
        ({"random_state": -1}, "random_state must be"),
    ],
)
def test_wrong_options_are_named_before_any_work(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        pretrain_lm(["a"], tmp_path / "lm", **{**SMALL, **changes})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", ["one text", [], [1]])
def test_what_is_no_list_of_texts_is_refused(tmp_path: Path, texts: Any) -> None:
    with pytest.raises(InvalidInputError):
        pretrain_lm(texts, tmp_path / "lm", **SMALL)


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def interrupt(self: Any, *arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *arguments)

    plain = NextToken.loss
    monkeypatch.setattr(NextToken, "loss", interrupt)
    with pytest.raises(TrainingInterrupted, match="nothing was written"):
        pretrain_lm(tiny_texts(160), tmp_path / "lm", epochs=5, **SMALL)
    assert len(steps) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_names_the_rate(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"in step \d+ of 50. Use a lower learning_rate than 1e\+30"):
        pretrain_lm(tiny_texts(160), tmp_path / "lm", epochs=5, learning_rate=1e30, **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_was_read_without_labels_helps_with_few_labels(tmp_path: Path) -> None:
    unlabelled, train, test = (
        make_feedback(1500, random_state=5),
        make_feedback(120, random_state=1),
        make_feedback(300),
    )
    sizes = {"hidden": 64, "layers": 2, "vocabulary": 800, "max_length": 128, "random_state": 0, "verbose": 0}
    found = {}
    # At the second rate nothing is learned: the same tokenizer with random weights.
    for rate, epochs in ((3e-3, 5), (1e-9, 1)):
        made = pretrain_lm(unlabelled.texts, tmp_path / str(rate), epochs=epochs, learning_rate=rate, **sizes)
        backbone = LlmOptions(model=str(made.folder), pooling="mean")
        training = {"learning_rate": 5e-4, "batch_size": 8}
        classes = unlabelled.classes
        clf = toy_classifier(tmp_path, "full", backbone=backbone, epochs=6, training=training, classes=classes)
        report = clf.fit(train.texts, train.labels).evaluate(test.texts, test.labels)
        found[rate] = report.mean_average_precision
    assert found[3e-3] > found[1e-9] + 0.01
