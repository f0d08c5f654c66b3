"""What a word is replaced by: synonyms of the user, or uninformative words of the training texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlclf.augmentation.words import SplitTexts


class Replacements(Protocol):
    """Says which words may be replaced, and by what."""

    def chances(self, split: SplitTexts, share: float) -> NDArray[np.float64]:
        """Return how likely each word is replaced where a share of the words is to be; shape (n_words,)."""

    def draw(self, words: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return what each of some words is replaced by."""


class Synonyms:
    """Synonyms that the user gave; words without one stay.

    Parameters
    ----------
    synonyms : mapping of str to sequence of str
        Words in any case, with what may stand in their place.

    Examples
    --------
    >>> import numpy as np
    >>> Synonyms({"big": ["large"]}).draw(["Big", "BIG"], np.random.default_rng(0))
    ['Large', 'LARGE']
    """

    def __init__(self, synonyms: Mapping[str, Sequence[str]]) -> None:
        self._synonyms: dict[str, list[str]] = {}
        for word, others in synonyms.items():
            self._synonyms.setdefault(word.lower(), []).extend(others)

    def chances(self, split: SplitTexts, share: float) -> NDArray[np.float64]:
        """Return the share for words that have a synonym."""
        return np.array([share if word.lower() in self._synonyms else 0.0 for word in split.words], dtype=np.float64)

    def draw(self, words: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return one synonym for each word, in the word's case."""
        picks = generator.random(len(words)).tolist()
        found = (self._synonyms[word.lower()] for word in words)
        return [in_case_of(word, s[int(p * len(s))]) for word, s, p in zip(words, found, picks, strict=True)]


@dataclass(frozen=True)
class CorpusWords:
    """Words of the training texts, by how little they tell (Xie et al. 2020, arXiv:1904.12848, appendix B).

    Within a text, words of low TF-IDF are replaced rather than those that say what it is about. What stands in their
    place is drawn from all words with a chance that falls with ``freq(w) * idf(w)``: the words on which texts differ
    most are the last to be put where they do not belong.

    Parameters
    ----------
    vocabulary : dict of str to int
        Number of each word, in lower case.
    words : ndarray of str objects, shape (n_vocabulary,)
        The words by number.
    idf : ndarray of float64, shape (n_vocabulary,)
        Inverse document frequency, ``log(n_texts / n_texts_with_the_word)``.
    ladder : ndarray of float64, shape (n_vocabulary,)
        Cumulative chances of being drawn.
    """

    vocabulary: dict[str, int]
    words: NDArray[np.object_]
    idf: NDArray[np.float64]
    ladder: NDArray[np.float64]

    @classmethod
    def count(cls, split: SplitTexts) -> CorpusWords:
        """Count the words of the training texts.

        Examples
        --------
        >>> from mlclf.augmentation.words import split_words
        >>> CorpusWords.count(split_words(["The cat", "the dog"])).idf.round(2).tolist()
        [0.0, 0.69, 0.69]
        """
        vocabulary: dict[str, int] = {}
        ids = np.array([vocabulary.setdefault(word.lower(), len(vocabulary)) for word in split.words], dtype=np.int64)
        size = len(vocabulary)
        cells = np.unique(split.owners * max(1, size) + ids)
        documents = np.bincount(cells % max(1, size), minlength=size)
        idf = np.log((len(split.offsets) - 1) / np.maximum(1, documents))
        telling = np.bincount(ids, minlength=size) * idf
        chances = telling.max(initial=0.0) - telling
        ladder = np.cumsum(chances if chances.any() else np.ones(size))
        return cls(vocabulary, np.array(list(vocabulary), dtype=np.object_), idf, ladder)

    def chances(self, split: SplitTexts, share: float) -> NDArray[np.float64]:
        """Return ``min(share * (C - tfidf) / Z, 1)``, where C is a text's highest TF-IDF and Z its mean of C - tfidf.

        A text whose words are all equally telling, such as one of a single word, is left alone.
        """
        if not len(split.words):
            return np.zeros(0)
        scores = self._tf_idf(split)
        filled = np.flatnonzero(split.counts)
        highest = np.maximum.reduceat(scores, split.offsets[filled])
        below = np.repeat(highest, split.counts[filled]) - scores
        mean = np.add.reduceat(below, split.offsets[filled]) / split.counts[filled]
        mean = np.repeat(mean, split.counts[filled])
        chances: NDArray[np.float64] = np.minimum(share * np.divide(below, mean, where=mean > 0, out=0 * below), 1.0)
        return chances

    def draw(self, words: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return as many words of the training texts, each in the case of the one it replaces."""
        found = np.searchsorted(self.ladder, generator.random(len(words)) * self.ladder[-1:], side="right")
        drawn = self.words[np.minimum(found, len(self.words) - 1)]
        return [in_case_of(word, other) for word, other in zip(words, drawn, strict=True)]

    def _tf_idf(self, split: SplitTexts) -> NDArray[np.float64]:
        """Return how often a text has each of its words, times the word's IDF; a new word is as rare as can be."""
        unknown = len(self.vocabulary)
        ids = np.array([self.vocabulary.get(word.lower(), unknown) for word in split.words], dtype=np.int64)
        _, cells, counts = np.unique(split.owners * (unknown + 1) + ids, return_inverse=True, return_counts=True)
        idf = np.append(self.idf, self.idf.max(initial=0.0))
        scores: NDArray[np.float64] = counts[cells] * idf[ids]
        return scores


def in_case_of(word: str, other: str) -> str:
    """Return a word in the case of the one that it replaces: all capitals, a capital first, or as it is.

    Examples
    --------
    >>> in_case_of("Big", "large"), in_case_of("BIG", "large"), in_case_of("I", "you"), in_case_of("big", "USA")
    ('Large', 'LARGE', 'You', 'USA')
    """
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other
