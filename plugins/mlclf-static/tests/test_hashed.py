"""The backbone static:hashed."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlclf_static.hashed import HashedBackbone, HashedOptions
from mlclf_static.pieces import first_continuing, piece_tokenizer

from mlclf import AutoOptions, MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.interfaces import LoadRequest
from mlclf.plugins import resolve
from mlclf.strategy_table import strategy_table
from mlclf.testing import tiny_labels, tiny_texts

TOKENIZER = piece_tokenizer()


def loaded(**options):
    backbone = HashedBackbone(HashedOptions(**{"buckets": 1 << 14, "hidden": 8, **options}))
    backbone.load(LoadRequest())
    return backbone.eval()


def buckets(backbone, text):
    """Return the rows of the table of each piece of a text, shape (length, 1 + words)."""
    return backbone.model.buckets(torch.from_numpy(backbone.encode([text]).ids.astype(np.int64))[None])[0]


def classifier(strategy="full", *, options=None, **training):
    settings = {"epochs": 20, "batch_size": 16, "precision": "fp32", **training}
    return MultiLabelClassifier(
        options or HashedOptions(buckets=1 << 12),
        strategy,
        training=TrainingOptions(**settings),
        validation=None,
        thresholds=0.5,
        random_state=0,
        verbose=0,
    )


def test_package_follows_the_rules_for_plugins(project):
    assert (project["name"], list(project["entry-points"]["mlclf"])) == ("mlclf-static", ["static"])
    assert "mlclf>=0.1,<1" in project["dependencies"]
    assert resolve("backbone", "static:hashed")[1:] == (HashedBackbone, HashedOptions())


@given(st.text())
@settings(max_examples=200)
def test_every_text_has_pieces_and_none_is_unknown(text):
    encoding = TOKENIZER.encode(text)
    assert "[UNK]" not in encoding.tokens
    assert "[PAD]" not in encoding.tokens
    assert all(number < TOKENIZER.get_vocab_size() for number in encoding.ids)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The weather", ["the", "wea", "##the", "##r"]),
        ("CAFÉ", ["caf", "##e"]),
        ("2024!", ["20", "##24", "!"]),
        ("[PAD]", ["[", "pad", "]"]),
    ],
)
def test_words_are_cut_into_three_letters(text, pieces):
    assert TOKENIZER.encode(text).tokens == pieces


def test_pieces_that_begin_a_word_are_told_from_those_that_continue_it():
    limit = first_continuing(TOKENIZER)
    for piece, number in TOKENIZER.get_vocab().items():
        assert (number >= limit) == (piece.startswith("##") and len(piece) > 2)


def test_a_word_has_one_vector_wherever_it_stands_and_a_pair_another_one():
    backbone = loaded()
    alone, behind = buckets(backbone, "weather"), buckets(backbone, "fine weather")
    torch.testing.assert_close(behind[-1, :2], alone[-1, :2])
    assert behind[-1, 2] != alone[-1, 2]
    again = buckets(backbone, "a fine weather")
    torch.testing.assert_close(again[-1], behind[-1])


def test_inflected_forms_share_the_vectors_of_their_beginnings():
    backbone = loaded()
    assert buckets(backbone, "happiness")[1, 1] == buckets(backbone, "happinxyz")[1, 1]


def test_the_order_of_pieces_and_of_words_counts():
    backbone = loaded()
    assert buckets(backbone, "foobarbaz")[-1, 1] != buckets(backbone, "foobazbar")[-1, 1]
    assert buckets(backbone, "cat dog")[-1, 2] != buckets(backbone, "dog cat")[-1, 2]


def test_a_bucket_is_rarely_shared_in_a_large_table():
    backbone = loaded(buckets=1 << 20, hidden=1)
    words = sorted({f"{a}{b}{c}" for a in "bcdfgh" for b in "aeiou" for c in "lmnprst"})
    found = {int(buckets(backbone, word)[-1, 1]) for word in words}
    assert len(found) >= len(words) - 2


def test_training_with_the_default_rate_learns():
    texts, unseen = tiny_texts(96), tiny_texts(40, seed=1)
    clf = classifier().fit(texts, tiny_labels(texts))
    assert clf.evaluate(unseen, tiny_labels(unseen)).micro_f1 > 0.45


@pytest.mark.parametrize("n_rows", [96, 400])
def test_auto_trains_the_table_and_learns(n_rows, caplog):
    texts, unseen = tiny_texts(n_rows), tiny_texts(40, seed=1)
    clf = classifier("auto").fit(texts, tiny_labels(texts))
    assert (clf.strategy_choice_.strategy, clf.strategy_choice_.rule) == ("full", "untrained")
    assert clf.evaluate(unseen, tiny_labels(unseen)).micro_f1 > 0.45
    assert ("96 training rows are few" in caplog.text) == (n_rows == 96)


def test_auto_says_when_the_vectors_stay_random():
    texts = tiny_texts(48)
    clf = classifier(AutoOptions(deployment="many-models"), epochs=1).fit(texts, tiny_labels(texts))
    assert clf.strategy_choice_.strategy == "head-only"
    assert "leaves its weights at random" in clf.strategy_choice_.warning


def test_random_vectors_without_training_are_saved_with_the_model(tmp_path):
    texts = tiny_texts(48)
    clf = classifier("features").fit(texts, tiny_labels(texts))
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(texts), clf.predict_proba(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("partial", "needs|stack"),
        ("lora", "Use strategy='full' or 'head-only'"),
        ("qlora", "weights of few bits"),
        ("adapter", "no layers with attention"),
        ("ia3", "no layers with attention"),
        ("bitfit", "trains biases"),
        ("prefix", "family 'other'"),
        ("prompt-tuning", "family 'other'"),
    ],
)
def test_strategies_that_need_a_transformer_are_refused_for_some_that_do_not(strategy, reason):
    rows = tiny_texts(16), tiny_labels(tiny_texts(16))
    with pytest.raises(IncompatibleComponentsError, match=reason) as caught:
        classifier(strategy).fit(*rows)
    (proposal,) = re.findall(r"Use strategy=([^.]*)", str(caught.value))
    names = re.findall(r"'([\w-]+)'", proposal.partition(", and head=")[0])
    assert names
    for name in names:
        classifier(name, epochs=1).fit(*rows)


def test_wrong_options_are_refused():
    with pytest.raises(OptionsError, match="words"):
        HashedOptions(words=5)


def test_the_table_of_strategies_shows_the_rate_that_training_starts_with():
    rows = {row.name: row for row in strategy_table(HashedOptions(buckets=1 << 10)).rows}
    assert rows["full"].backbone_rate == pytest.approx(1e-2)
    assert {name for name, row in rows.items() if row.problem is None} == {"full", "head-only", "features"}
