"""Texts as token ids: bulk tokenisation with truncation or overlapping windows, free of torch.

Training, prediction and the exported ONNX folder all encode texts here, so that a long document is cut in the
same way everywhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Texts per tokenizer call: large enough to keep its threads busy, small enough that the Rust objects of one
# chunk (about 1 KiB a token) stay far below the arrays they are turned into.
_CHUNK = 4096

# The mask tokens of BERT and its kin, of RoBERTa, XLM-R and MPNet, and of some newer vocabularies.
MASK_TOKENS = ("[MASK]", "<mask>", "<|mask|>")


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of many texts in one flat array.

    A text is one window, or several overlapping ones where it is longer than the backbone reads at once.

    Parameters
    ----------
    ids : ndarray of int32, shape (n_tokens,)
        Token ids of all windows, special tokens included, one window after the other.
    window_offsets : ndarray of int64, shape (n_windows + 1,)
        Window ``w`` is ``ids[window_offsets[w]:window_offsets[w + 1]]``.
    sample_offsets : ndarray of int64, shape (n_samples + 1,)
        Sample ``i`` owns the windows ``sample_offsets[i]`` to ``sample_offsets[i + 1] - 1``; at least one each.
    """

    ids: NDArray[np.int32]
    window_offsets: NDArray[np.int64]
    sample_offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample_offsets) - 1

    @property
    def n_windows(self) -> int:
        """Number of windows of all samples."""
        return len(self.window_offsets) - 1

    @property
    def window_lengths(self) -> NDArray[np.int64]:
        """Tokens in each window, shape (n_windows,)."""
        return np.diff(self.window_offsets)

    @property
    def windows_per_sample(self) -> NDArray[np.int64]:
        """Windows of each sample, shape (n_samples,)."""
        return np.diff(self.sample_offsets)

    @property
    def sample_lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample over all of its windows, shape (n_samples,)."""
        return np.diff(self.window_offsets[self.sample_offsets])

    def tokens_of(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions in ``ids`` of some windows' tokens, one window after the other.

        Parameters
        ----------
        windows : ndarray of int64, shape (n,)
            Window numbers.

        Returns
        -------
        ndarray of int64, shape (n_tokens_of_windows,)
        """
        first = self.window_offsets[windows]
        lengths = self.window_offsets[windows + 1] - first
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        positions: NDArray[np.int64] = np.repeat(first, lengths) + within
        return positions

    def windows_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the windows of some samples and, for each window, its position in ``rows``.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Sample numbers.

        Returns
        -------
        windows : ndarray of int64, shape (n_windows_of_rows,)
        owners : ndarray of int64, shape (n_windows_of_rows,)
            ``rows[owners[k]]`` is the sample that owns ``windows[k]``; non-decreasing.
        """
        first = self.sample_offsets[rows]
        counts = self.sample_offsets[rows + 1] - first
        owners = np.repeat(np.arange(len(rows)), counts)
        position = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(first, counts) + position, owners

    def padded(
        self, windows: NDArray[np.int64], pad_id: int, padding_side: Literal["left", "right"]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return some windows as a matrix of token ids, padded to the longest of them.

        Parameters
        ----------
        windows : ndarray of int64, shape (n,)
            Window numbers.
        pad_id : int
            Token id of padding.
        padding_side : {"left", "right"}

        Returns
        -------
        ids : ndarray of int64, shape (n, length)
        mask : ndarray of bool, shape (n, length)
            True where there is a token.
        """
        lengths = self.window_offsets[windows + 1] - self.window_offsets[windows]
        length = int(lengths.max())
        shift = length - lengths if padding_side == "left" else np.zeros_like(lengths)
        column = np.arange(length)[None, :]
        mask = (column >= shift[:, None]) & (column < (shift + lengths)[:, None])
        ids = np.full((len(windows), length), pad_id, dtype=np.int64)
        ids[mask] = self.ids[self.tokens_of(windows)]
        return ids, mask


def for_data(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of a tokenizer in which no text becomes a special token.

    ``encode_special_tokens`` does it for tokens that stand beside the vocabulary. The models of some tokenizers hold
    them in the vocabulary as well (SentencePiece, as of XLM-RoBERTa), and would still find them in a text: for these,
    a space is put behind their first character.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Left as it is.

    Returns
    -------
    tokenizers.Tokenizer

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> tokenizer = tiny_tokenizer("unigram")
    >>> tokenizer.token_to_id("<mask>") in for_data(tokenizer).encode("a <mask>").ids
    False
    """
    from tokenizers import Tokenizer as _Tokenizer
    from tokenizers import normalizers

    copy = _Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    special = [token.content for token in copy.get_added_tokens_decoder().values() if token.special]
    breaks = [normalizers.Replace(text, f"{text[0]} {text[1:]}") for text in special if _is_found(copy, text)]
    if breaks:
        first = [] if copy.normalizer is None else [copy.normalizer]
        copy.normalizer = normalizers.Sequence([*first, *breaks])
    return copy


def _is_found(tokenizer: Tokenizer, special: str) -> bool:
    """Say whether a special token that is typed in a text is still one token."""
    encoding = tokenizer.encode(special, add_special_tokens=False)
    spans = zip(encoding.tokens, encoding.offsets, strict=True)
    return len(special) > 1 and any(token == special and end - start >= len(special) for token, (start, end) in spans)


def find_mask_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token that stands for a hidden one (``[MASK]``, ``<mask>``), or None where there is none.

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> find_mask_id(tiny_tokenizer())
    4
    """
    known = (tokenizer.token_to_id(token) for token in MASK_TOKENS)
    return next((int(found) for found in known if found is not None), None)


class TextEncoder:
    """Turns texts into token ids with a fixed rule for long texts.

    Special tokens typed in a text (``"[SEP]"``, ``"</s>"``) are encoded as plain characters: a text is data.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The tokenizer; a copy is taken and its own truncation and padding are switched off, because
        tokenizer.json files carry settings of their authors (MiniLM's: cut at 128, pad to 128).
    max_length : int
        Tokens that the backbone reads at once, special tokens included.
    window_stride : int or None
        None cuts a long text at ``max_length``. A number splits it into windows of ``max_length`` tokens that
        overlap by this many tokens.

    Raises
    ------
    OptionsError
        If the windows would not advance or no token of the text would fit.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> encoded = TextEncoder(tokenizer, max_length=2, window_stride=1).encode(["a b a", ""])
    >>> encoded.windows_per_sample.tolist()
    [2, 1]
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int, window_stride: int | None = None) -> None:
        from mlclf.exceptions import OptionsError

        self.tokenizer = for_data(tokenizer)
        self.tokenizer.no_padding()
        room = max_length - self.tokenizer.num_special_tokens_to_add(False)
        if room < 1:
            raise OptionsError(
                f"max_length={max_length} leaves no room for text beside {max_length - room} special tokens. "
                f"Use max_length of at least {max_length - room + 1}."
            )
        if window_stride is not None and not 0 <= window_stride < room:
            raise OptionsError(
                f"window_stride={window_stride} must be between 0 and {room - 1} (the {room} text tokens of a window "
                "less one), or the windows would not advance."
            )
        self.max_length = max_length
        self.window_stride = window_stride
        self.tokenizer.enable_truncation(max_length, stride=window_stride or 0)

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str, length n_samples
            The texts; an empty text becomes a window of special tokens, or of one padding position where the
            tokenizer has no special tokens.

        Returns
        -------
        EncodedTexts
        """
        ids, window_lengths = array("i"), array("q")
        counts = np.ones(len(texts), dtype=np.int64)
        for start in range(0, len(texts), _CHUNK):
            for row, encoding in enumerate(self._encode_chunk(texts[start : start + _CHUNK]), start):
                windows = [encoding] if self.window_stride is None else [encoding, *encoding.overflowing]
                counts[row] = len(windows)
                for window in windows:
                    tokens = window.ids or [0]
                    ids.fromlist(tokens)
                    window_lengths.append(len(tokens))
        return EncodedTexts(
            ids=np.array(ids, dtype=np.int32),
            window_offsets=_offsets(np.array(window_lengths, dtype=np.int64)),
            sample_offsets=_offsets(counts),
        )

    def _encode_chunk(self, texts: Sequence[str]) -> list[Encoding]:
        encodings: list[Encoding] = self.tokenizer.encode_batch_fast(list(texts))
        return encodings

    def __reduce__(self) -> tuple[type[TextEncoder], tuple[Tokenizer, int, int | None]]:
        """Copy and pickle through the constructor: a pickled tokenizer forgets to take special tokens as text."""
        return type(self), (self.tokenizer, self.max_length, self.window_stride)


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
