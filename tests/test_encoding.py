"""Texts become token ids by one rule, wherever that happens."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tokenizers import Tokenizer, models, pre_tokenizers

from mlclf.encoding import EncodedTexts, TextEncoder
from mlclf.exceptions import OptionsError
from mlclf.testing import tiny_texts, tiny_tokenizer

SPECIAL = 2  # tokens that the tiny tokenizers put around a text


def windows_of(encoded: EncodedTexts, row: int) -> list[list[int]]:
    windows, _ = encoded.windows_of(np.array([row]))
    return [encoded.ids[encoded.window_offsets[w] : encoded.window_offsets[w + 1]].tolist() for w in windows]


def plain_words(n: int) -> str:
    return " ".join(["cat", "dog", "bird", "sheep", "horse"][i % 5] for i in range(n))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_encoding_in_bulk_equals_encoding_one_by_one(kind: str) -> None:
    encoder = TextEncoder(tiny_tokenizer(kind), max_length=16, window_stride=3)
    texts = [*tiny_texts(50), "", "unknownword ünïcode 漢字", plain_words(40)]
    together = encoder.encode(texts)
    for row, text in enumerate(texts):
        assert windows_of(together, row) == windows_of(encoder.encode([text]), 0)


def test_more_texts_than_one_chunk_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tiny_texts(25)
    encoder = TextEncoder(tiny_tokenizer(), max_length=32)
    whole = encoder.encode(texts)
    monkeypatch.setattr("mlclf.encoding._CHUNK", 4)
    pieces = encoder.encode(texts)
    assert_array_equal(pieces.ids, whole.ids)
    assert_array_equal(pieces.window_offsets, whole.window_offsets)
    assert_array_equal(pieces.sample_offsets, whole.sample_offsets)


def test_a_long_text_is_cut_at_max_length() -> None:
    encoded = TextEncoder(tiny_tokenizer(), max_length=8).encode([plain_words(30), plain_words(2)])
    assert encoded.window_lengths.tolist() == [8, 4]
    assert encoded.windows_per_sample.tolist() == [1, 1]
    assert encoded.sample_lengths.tolist() == [8, 4]


@settings(max_examples=60, deadline=None)
@given(n_words=st.integers(0, 60), max_length=st.integers(SPECIAL + 1, 20), data=st.data())
def test_windows_overlap_by_the_stride_and_cover_every_token(
    n_words: int, max_length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(0, max_length - SPECIAL - 1))
    text = plain_words(n_words)
    whole = TextEncoder(tiny_tokenizer(), max_length=1000).encode([text]).ids.tolist()[1:-1]
    windows = windows_of(TextEncoder(tiny_tokenizer(), max_length, stride).encode([text]), 0)
    assert all(len(window) <= max_length for window in windows)
    inner = [window[1:-1] for window in windows]
    rebuilt = inner[0]
    for window in inner[1:]:
        assert window[:stride] == rebuilt[len(rebuilt) - stride :]
        assert len(window) > stride
        rebuilt = rebuilt + window[stride:]
    assert rebuilt == whole


def test_windows_of_names_the_owner_of_each_window() -> None:
    encoder = TextEncoder(tiny_tokenizer(), max_length=6, window_stride=1)
    encoded = encoder.encode([plain_words(2), plain_words(9), "", plain_words(5)])
    rows = np.array([3, 0, 1])
    windows, owners = encoded.windows_of(rows)
    for window, owner in zip(windows, owners, strict=True):
        row = rows[owner]
        assert encoded.sample_offsets[row] <= window < encoded.sample_offsets[row + 1]
    assert len(windows) == encoded.windows_per_sample[rows].sum()


def test_special_tokens_typed_in_a_text_are_plain_characters() -> None:
    tokenizer = tiny_tokenizer()
    ids = TextEncoder(tokenizer, max_length=32).encode(["cat [SEP] [PAD] dog"]).ids.tolist()
    assert ids.count(tokenizer.token_to_id("[SEP]")) == 1
    assert tokenizer.token_to_id("[PAD]") not in ids


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder))])
def test_copies_and_pickles_encode_alike(twin_of: object) -> None:
    encoder = TextEncoder(tiny_tokenizer(), max_length=8, window_stride=2)
    texts = ["cat [SEP] dog", plain_words(20)]
    assert_array_equal(twin_of(encoder).encode(texts).ids, encoder.encode(texts).ids)


def test_truncation_and_padding_of_the_tokenizer_file_are_not_used() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    assert TextEncoder(tokenizer, max_length=32).encode([plain_words(9)]).window_lengths.tolist() == [11]
    assert tokenizer.truncation["max_length"] == 3, "the caller's tokenizer is left as it was"


def test_no_texts_and_empty_texts_are_legal() -> None:
    encoder = TextEncoder(tiny_tokenizer(), max_length=8, window_stride=1)
    assert len(encoder.encode([])) == 0
    assert encoder.encode(["", ""]).window_lengths.tolist() == [SPECIAL, SPECIAL]
    bare = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1}, unk_token="[PAD]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    assert TextEncoder(bare, max_length=4).encode([""]).ids.tolist() == [0]


@pytest.mark.parametrize("max_length", [1, 2])
def test_max_length_without_room_for_text_is_refused(max_length: int) -> None:
    with pytest.raises(
        OptionsError, match=r"leaves no room for text beside 2 special tokens\. Use max_length of at lea"
    ):
        TextEncoder(tiny_tokenizer(), max_length=max_length)


@pytest.mark.parametrize("stride", [6, 7, -1])
def test_windows_that_would_not_advance_are_refused(stride: int) -> None:
    with pytest.raises(OptionsError, match=rf"window_stride={stride} must be between 0 and 5"):
        TextEncoder(tiny_tokenizer(), max_length=8, window_stride=stride)


def test_encoding_needs_no_torch() -> None:
    code = (
        "import sys; from tokenizers import Tokenizer, models; from mlclf.encoding import TextEncoder; "
        "TextEncoder(Tokenizer(models.WordLevel({'a': 0}, unk_token='a')), 4).encode(['a']); "
        "assert not {'torch', 'transformers', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
