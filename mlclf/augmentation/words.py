"""Words of many texts at once, so that some can be changed and everything between them stays as it is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Scripts that put no space between words: Thai, Lao, Tibetan, Myanmar, Khmer, Tai, kana, bopomofo and Han with their
# extensions. Where a word ends there is known to a dictionary only, so that these characters are never part of one.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aad\ua9e0-\ua9ff\uaa60-\uaadf"
    "\u3005-\u3007\u3031-\u3035\u3041-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# No combining mark stands below the first, and beyond the second only variation selectors do.
_FIRST_MARK, _LAST_MARK = 0x300, 0x1F000

# The same words as those of the general expression where a text is ASCII, four times as fast.
_ASCII_WORD = re.compile(r"(\w(?:\S*\w)?)")


@dataclass(frozen=True)
class SplitTexts:
    """Texts as words and what stands between them.

    Parameters
    ----------
    words : ndarray of str objects, shape (n_words,)
        Words of all texts, one text after the other.
    gaps : list of str, length n_words + n_texts
        What stands before, between and after the words: text ``i`` has one gap more than words.
    offsets : ndarray of int64, shape (n_texts + 1,)
        Text ``i`` owns ``words[offsets[i]:offsets[i + 1]]``.
    """

    words: NDArray[np.object_]
    gaps: list[str]
    offsets: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Words of each text, shape (n_texts,)."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> NDArray[np.int64]:
        """Text that owns each word, shape (n_words,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def join(self, texts: Sequence[str], words: NDArray[np.object_]) -> list[str]:
        """Return texts with other words in the places of their own.

        Parameters
        ----------
        texts : sequence of str, length n_texts
            The texts that were split; those whose words are unchanged are returned as they are.
        words : ndarray of str objects or None, shape (n_words,)
            New words; None where a word is deleted.

        Returns
        -------
        list of str, length n_texts
        """
        joined = list(texts)
        for row in np.unique(self.owners[words != self.words]).tolist():
            start, stop = int(self.offsets[row]), int(self.offsets[row + 1])
            joined[row] = _joined(words[start:stop].tolist(), self.gaps[start + row : stop + row + 1])
        return joined


def split_words(texts: Iterable[str]) -> SplitTexts:
    """Split texts into words and what stands between them.

    A word is what white space surrounds, without the punctuation at its ends; an inner apostrophe or hyphen belongs to
    it. Combining marks count as letters. Characters of scripts without spaces between words (Chinese, Japanese, Thai
    and others) belong to no word.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    SplitTexts

    Examples
    --------
    >>> split = split_words(["Don't stop, now!", "..."])
    >>> split.words.tolist(), split.gaps
    (["Don't", 'stop', 'now'], ['', ' ', ', ', '!', '...'])
    """
    split, split_ascii = _pattern().split, _ASCII_WORD.split
    words: list[str] = []
    gaps: list[str] = []
    counts: list[int] = []
    for text in texts:
        parts = split_ascii(text) if text.isascii() else split(text)
        gaps += parts[::2]
        words += parts[1::2]
        counts.append(len(parts) // 2)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.array(counts, dtype=np.int64))])
    return SplitTexts(np.array(words, dtype=np.object_), gaps, offsets)


def _joined(words: Sequence[str | None], gaps: Sequence[str]) -> str:
    """Put words and gaps together again; where a word is None, its two gaps become one."""
    parts = [gaps[0]]
    for word, gap in zip(words, gaps[1:], strict=True):
        if word is None:
            parts[-1] = _merged_gap(parts[-1], gap)
        else:
            parts += [word, gap]
    return "".join(parts)


def _merged_gap(before: str, after: str) -> str:
    """Return the gap that is left where a word is deleted: punctuation of both sides, white space of one."""
    if after[:1].isspace() or not before:
        return before + after.lstrip()
    return before.rstrip() + after


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    """Return the expression of one word, whose first and last character is a letter, digit, mark or underscore."""
    edge = rf"(?![{_UNSPACED}])[\w{_marks()}]"
    return re.compile(rf"({edge}(?:[^\s{_UNSPACED}]*{edge})?)")


def _marks() -> str:
    """Return Unicode's combining marks, which Python does not count among letters, as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in range(_FIRST_MARK, _LAST_MARK):
        if not unicodedata.category(chr(code)).startswith("M"):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
