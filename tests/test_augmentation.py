"""Augmentation: what each technique changes and what it leaves, as functions of texts, targets and a seed."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from tokenizers import Tokenizer, models

from mlclf import AugmentationOptions, register_back_translation
from mlclf.augmentation.base import Corpus
from mlclf.augmentation.masking import SpanMasking
from mlclf.augmentation.mixing import Mixing, union
from mlclf.augmentation.techniques import StandardAugmentation
from mlclf.augmentation.words import split_words
from mlclf.encoding import EncodedTexts, TextEncoder
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError, OptionsError
from mlclf.targets import Targets
from mlclf.testing import tiny_texts, tiny_tokenizer

unhurried = settings(deadline=None, max_examples=60)
shares = st.floats(0.01, 0.95)
seeds = st.integers(0, 2**32)
any_text = st.text(max_size=60)
plain_text = st.lists(st.sampled_from(["snow", "Wind,", "don't", "(rain)", "été", "\n"]), max_size=12).map(" ".join)
corpora = st.lists(any_text | plain_text, min_size=1, max_size=12)


def no_labels(n: int) -> Targets:
    return Targets(csr_array((n, 2), dtype=np.int8))


def prepared(options: AugmentationOptions, corpus: Corpus) -> StandardAugmentation:
    made = StandardAugmentation(options)
    made.prepare(corpus)
    return made


def augmentation(texts: list[str], **options: Any) -> StandardAugmentation:
    encoder = TextEncoder(tiny_tokenizer(), 64)
    corpus = Corpus(
        texts=texts,
        weights=np.ones(len(texts), dtype=np.float32),
        lengths=encoder.encode(texts).sample_lengths,
        max_joint_length=66,
        tokenizer=encoder.tokenizer,
    )
    return prepared(AugmentationOptions(**options), corpus)


def augmented(texts: list[str], seed: int = 0, epoch: int = 0, **options: Any) -> list[str]:
    made = augmentation(texts, **options)
    return list(made.rows(texts, no_labels(len(texts)), seed, epoch)[0])


def words_of(text: str) -> list[str]:
    return split_words([text]).words.tolist()


# --- words -----------------------------------------------------------------------------------------------------------


@unhurried
@given(corpora)
def test_words_and_gaps_are_the_whole_text(texts: list[str]) -> None:
    split = split_words(texts)
    for row, text in enumerate(texts):
        start, stop = split.offsets[row], split.offsets[row + 1]
        gaps = split.gaps[start + row : stop + row + 1]
        assert gaps[0] + "".join(w + g for w, g in zip(split.words[start:stop], gaps[1:], strict=True)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop -- it's well-known!", ["Don't", "stop", "it's", "well-known"]),
        ("«Été», (naïve) 5 €", ["Été", "naïve", "5"]),
        ("हिन्दी में लिखा।", ["हिन्दी", "में", "लिखा"]),
        ("e\u0301te\u0301, שָׁלוֹם", ["e\u0301te\u0301", "שָׁלוֹם"]),
        ("한국어 문장입니다.", ["한국어", "문장입니다"]),
        ("这部电影很好看。", []),
        ("我的iPhone 坏了 again", ["iPhone", "again"]),
        ("ภาษาไทยไม่เว้นวรรค", []),
        ("🙂 😀!", []),
    ],
)
def test_words_are_found_in_any_script_with_spaces(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@unhurried
@given(corpora, shares, seeds, st.sampled_from(["replacement", "swap", "deletion", "mixing"]))
def test_a_text_with_content_never_becomes_empty(texts: list[str], share: float, seed: int, technique: str) -> None:
    for before, after in zip(texts, augmented(texts, seed, **{technique: share}), strict=True):
        assert bool(after.strip()) or not before.strip()


@unhurried
@given(corpora, shares, seeds, st.sampled_from(["replacement", "swap", "deletion", "mixing"]))
def test_seed_and_epoch_decide_everything(texts: list[str], share: float, seed: int, technique: str) -> None:
    options = {technique: share}
    assert augmented(texts, seed, 3, **options) == augmented(texts, seed, 3, **options)


@unhurried
@given(corpora, shares, seeds)
def test_swapping_keeps_the_words_and_what_stands_between_them(texts: list[str], share: float, seed: int) -> None:
    after = augmented(texts, seed, swap=share)
    assert split_words(after).gaps == split_words(texts).gaps
    for old, new in zip(texts, after, strict=True):
        assert Counter(words_of(old)) == Counter(words_of(new))


@unhurried
@given(corpora, shares, seeds)
def test_deletion_keeps_the_order_of_what_is_left_and_at_least_one_word(
    texts: list[str], share: float, seed: int
) -> None:
    for old, new in zip(texts, augmented(texts, seed, deletion=share), strict=True):
        rest = iter(words_of(old))
        assert all(word in rest for word in words_of(new))
        assert bool(words_of(new)) == bool(words_of(old))
        assert len(new) <= len(old)


@unhurried
@given(corpora, shares, seeds)
def test_replacement_keeps_the_number_of_words_and_what_stands_between_them(
    texts: list[str], share: float, seed: int
) -> None:
    after = augmented(texts, seed, replacement=share)
    assert split_words(after).gaps == split_words(texts).gaps


@pytest.mark.parametrize("technique", ["replacement", "swap", "deletion"])
def test_the_share_of_changed_words_is_the_one_asked_for(technique: str) -> None:
    generator = np.random.default_rng(0)
    frequency = 1 / np.arange(1, 3001)
    frequency /= frequency.sum()
    texts = [" ".join(f"w{i}" for i in generator.choice(3000, 20, replace=False, p=frequency)) for _ in range(300)]
    split = split_words(texts)
    after = augmented(texts, **{technique: 0.1})
    if technique == "deletion":
        changed = 1 - len(split_words(after).words) / len(split.words)
    else:
        changed = float(np.mean(split_words(after).words != split.words))
    assert changed == pytest.approx(0.1, abs=0.015)


def test_every_epoch_and_every_seed_draws_anew() -> None:
    texts = tiny_texts(50)
    drawn = [augmented(texts, seed, epoch, deletion=0.2) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(texts) for texts in drawn}) == 4


def test_a_technique_draws_the_same_whatever_others_are_on() -> None:
    texts = tiny_texts(50)
    alone = augmentation(texts, mixing=0.5).row_techniques[-1]
    together = augmentation(texts, mixing=0.5, deletion=0.1, masking=0.1).row_techniques[-1]
    assert alone[0] == together[0]


def test_a_text_without_a_change_stays_as_it_is_to_the_last_space() -> None:
    texts = ["  Two\tspaces ,and\n a (line) break…  ", "这部电影很好看。", "", "!?"]
    assert augmented(texts, deletion=1e-9, swap=1e-9, replacement=1e-9) == texts


def test_punctuation_stays_where_a_word_is_deleted() -> None:
    texts = ["Yes, the big (old) dog barks!"] * 200
    for text in augmented(texts, deletion=0.3):
        assert text.count(",") == 1
        assert text.endswith("!")
        assert "  " not in text
        assert " ," not in text


def test_synonyms_are_used_in_the_case_of_the_word_and_leave_other_words_alone() -> None:
    options = {"replacement": 1.0, "synonyms": {"Big": ["large"], "dog": ["hound", "canine animal"]}}
    (text,) = augmented(["BIG Dog, big cat"], **options)
    assert text in {"LARGE Hound, large cat", "LARGE Canine animal, large cat"}


def test_corpus_words_replace_what_tells_little_and_are_uninformative_themselves() -> None:
    texts = [f"the film is a {word} of the season" for word in ["marvel", "horror"] * 50]
    after = Counter(word for text in augmented(texts, replacement=0.3) for word in words_of(text))
    assert after["marvel"] + after["horror"] == 100  # the only words on which the texts differ
    assert sum(after.values()) == sum(len(words_of(text)) for text in texts)


def test_words_of_rows_that_are_left_out_are_never_inserted() -> None:
    texts = ["alpha beta gamma alpha delta", "alpha beta beta epsilon"] * 20 + ["secret word"]
    weights = np.array([1.0] * 40 + [0.0], dtype=np.float32)
    corpus = Corpus(texts, weights, np.full(41, 5), None, tiny_tokenizer())
    made = prepared(AugmentationOptions(replacement=0.9), corpus)
    after = made.rows(texts, no_labels(41), 0, 0)[0][:40]
    assert "secret" not in " ".join(after)


def test_texts_without_words_between_spaces_are_left_alone_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["这部电影很好看。", "音乐也不错！", "fine"]
    with caplog.at_level(logging.WARNING):
        assert augmented(texts, deletion=0.9) == texts
    assert "67 % of the training texts have no words" in caplog.text


# --- mixing ----------------------------------------------------------------------------------------------------------


@st.composite
def targets_and_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, n_labels = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    cells = draw(st.lists(st.sampled_from([0, 1, -1]), min_size=n * n_labels, max_size=n * n_labels))
    rows = np.array(draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n)), dtype=np.int64)
    partners = np.array([draw(st.integers(0, n - 1)) for _ in rows], dtype=np.int64)
    return np.array(cells).reshape(n, n_labels), rows, partners


def as_targets(cells: np.ndarray) -> Targets:
    unknown = csr_array(cells == -1) if (cells == -1).any() else None
    return Targets(csr_array((cells == 1).astype(np.int8)), unknown)


@unhurried
@given(targets_and_pairs())
def test_the_union_of_labels_is_that_of_three_valued_logic(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    cells, rows, partners = case
    mixed = union(as_targets(cells), rows, partners)
    wanted = cells.copy()
    for row, partner in zip(rows, partners, strict=True):
        for label in range(cells.shape[1]):
            pair = {cells[row, label], cells[partner, label]}
            wanted[row, label] = 1 if 1 in pair else -1 if -1 in pair else 0
    found = mixed.indicator.toarray().astype(int)
    if mixed.unknown is not None:
        found = found - mixed.unknown.toarray().astype(int)
    np.testing.assert_array_equal(found, wanted)
    for matrix in (mixed.indicator, mixed.unknown):
        assert matrix is None or (matrix.has_sorted_indices and bool(matrix.data.all()))


def test_the_union_stays_sparse_for_very_many_labels() -> None:
    n, n_labels = 2000, 1_000_000
    indicator = csr_array((np.ones(n, dtype=np.int8), (np.arange(n), np.arange(n))), shape=(n, n_labels))
    mixed = union(Targets(indicator), np.arange(0, n, 2), np.arange(1, n, 2))
    assert mixed.indicator.nnz == 3 * n // 2


def test_labels_that_were_left_out_are_counted_for_both() -> None:
    targets = Targets(csr_array((2, 2), dtype=np.int8), None, np.array([1, 2]))
    assert union(targets, np.array([0]), np.array([1])).dropped_per_row.tolist() == [3, 2]
    assert targets.dropped_per_row.tolist() == [1, 2]


def mixing(weights: list[float], lengths: list[int], limit: int | None, share: float = 1.0) -> Mixing:
    return Mixing(share, np.array(weights, dtype=np.float32), np.array(lengths), limit)


def test_mixed_texts_say_what_both_said() -> None:
    texts = [f"text{i}" for i in range(50)]
    targets = Targets(csr_array(np.eye(50, dtype=np.int8)))
    after, labels = mixing([1] * 50, [3] * 50, None, 0.5).apply(texts, targets, np.random.default_rng(0))
    for row, text in enumerate(after):
        assert {f"text{i}" for i in labels.indicator[[row]].indices} == set(text.split())
        assert text.startswith(f"text{row}")
    assert 10 < sum(" " in text for text in after) < 40


def test_partners_are_drawn_by_their_weight() -> None:
    drawn = mixing([1, 0, 3] + [0] * 997, [1] * 1000, None).pairs(np.random.default_rng(0))[1]
    counts = np.bincount(drawn, minlength=1000)
    assert counts[1] == counts[3:].sum() == 0
    assert counts[2] / counts[0] == pytest.approx(3, rel=0.2)


def test_texts_that_would_be_cut_together_are_not_mixed() -> None:
    lengths = np.array([5, 9, 20, 3] * 25)
    rows, partners = mixing([1] * 100, lengths.tolist(), 14).pairs(np.random.default_rng(0))
    assert len(rows)
    assert (lengths[rows] + lengths[partners]).max() <= 14
    assert not (rows == partners).any()


def test_texts_too_long_to_be_mixed_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    corpus = Corpus(["a"] * 4, np.ones(4, np.float32), np.array([60, 60, 60, 3]), 66, tiny_tokenizer())
    with caplog.at_level(logging.WARNING):
        prepared(AugmentationOptions(mixing=0.5), corpus)
    assert "75 % of the training texts are too long" in caplog.text


# --- masking ---------------------------------------------------------------------------------------------------------


def masked(encoded: EncodedTexts, share: float, span: float = 3.0, seed: int = 0) -> EncodedTexts:
    technique = SpanMasking.make(
        AugmentationOptions(masking=share, masking_span=span),
        Corpus([], np.zeros(0, np.float32), np.zeros(0, np.int64), None, tiny_tokenizer()),
    )
    assert technique is not None
    return technique.apply(encoded, np.random.default_rng(seed))


@unhurried
@given(corpora, shares, st.floats(1, 8), seeds, st.booleans())
def test_masking_keeps_lengths_special_tokens_and_one_token_of_each_text(
    texts: list[str], share: float, span: float, seed: int, windows: bool
) -> None:
    encoded = TextEncoder(tiny_tokenizer(), 16, window_stride=4 if windows else None).encode(texts)
    after = masked(encoded, share, span, seed)
    assert after.window_offsets is encoded.window_offsets
    changed = after.ids != encoded.ids
    assert set(after.ids[changed]) <= {4}
    assert not np.isin(encoded.ids[changed], [0, 1, 2, 3, 4]).any()
    for row in range(len(texts)):
        tokens = encoded.tokens_of(encoded.windows_of(np.array([row]))[0])
        text_tokens = tokens[encoded.ids[tokens] > 4]
        assert not len(text_tokens) or not changed[text_tokens].all()


@pytest.mark.parametrize(("share", "span"), [(0.15, 3.0), (0.3, 1.0), (0.4, 2.0)])
def test_the_share_of_masked_tokens_is_the_one_asked_for_at_every_place(share: float, span: float) -> None:
    encoded = TextEncoder(tiny_tokenizer(), 64).encode(["the cat likes a quiet street and the old window"] * 4000)
    hidden = (masked(encoded, share, span).ids == 4).reshape(4000, -1)[:, 1:-1]
    np.testing.assert_allclose(hidden.mean(axis=0), share, atol=0.03)


def test_masked_tokens_stand_together() -> None:
    encoded = TextEncoder(tiny_tokenizer(), 64).encode([" ".join(["cat"] * 60)] * 200)
    runs = []
    for span in (1.0, 5.0):
        hidden = (masked(encoded, 0.15, span).ids == 4).astype(int)
        runs.append(hidden.sum() / (np.diff(hidden) == 1).sum())
    assert runs[1] > 3 * runs[0]


def test_a_tokenizer_without_a_mask_token_is_refused_with_a_way_out() -> None:
    maskless = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    corpus = Corpus(["a"], np.ones(1, np.float32), np.ones(1, np.int64), None, maskless)
    with pytest.raises(IncompatibleComponentsError, match=r"this tokenizer has none.*Use deletion"):
        prepared(AugmentationOptions(masking=0.1), corpus)


# --- back-translation ------------------------------------------------------------------------------------------------


def test_a_share_of_the_texts_is_read_as_translated_back() -> None:
    calls = []
    register_back_translation("test-upper", lambda texts: calls.append(len(texts)) or [t.upper() for t in texts])
    texts = tiny_texts(200)
    made = augmentation(texts, back_translation="test-upper", back_translation_share=0.3)
    epochs = [made.rows(texts, no_labels(200), 0, epoch)[0] for epoch in range(3)]
    assert calls == [200]
    assert np.mean([text.isupper() for text in epochs[0]]) == pytest.approx(0.3, abs=0.1)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: texts[:-1], "a list of 3 texts.*got 2 values"),
        (lambda texts: "abc", "got str|got 3 values"),
        (lambda texts: None, "got NoneType"),
        (lambda texts: ["a", None, "b"], "got None for text 1"),
    ],
)
def test_a_translation_of_another_form_is_refused(function: Any, message: str) -> None:
    register_back_translation("test-bad", function)
    with pytest.raises(InvalidInputError, match=message):
        augmentation(["x", "y", "z"], back_translation="test-bad")


def test_texts_that_came_back_empty_stay_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    register_back_translation("test-empty", lambda texts: [" "] * len(texts))
    with caplog.at_level(logging.WARNING):
        after = augmented(["x", "y"], back_translation="test-empty", back_translation_share=1.0)
    assert after == ["x", "y"]
    assert "2 empty texts" in caplog.text


def test_a_name_that_is_not_registered_is_named_with_the_closest_one() -> None:
    register_back_translation("test-german", lambda texts: texts)
    with pytest.raises(OptionsError, match=r"Did you mean 'test-german'.*register_back_translation"):
        augmentation(["x"], back_translation="test-germam")


@pytest.mark.parametrize(("name", "function"), [("", len), (3, len), ("x", "no function")])
def test_what_cannot_be_registered_is_refused(name: Any, function: Any) -> None:
    with pytest.raises(OptionsError, match=r"Back-translation|back-translation"):
        register_back_translation(name, function)
