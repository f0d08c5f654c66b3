"""Replacement, swap and deletion of words, after EDA."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlclf.augmentation.base import Corpus
from mlclf.augmentation.replacements import CorpusWords, Replacements, Synonyms
from mlclf.augmentation.words import SplitTexts, split_words
from mlclf.options import AugmentationOptions
from mlclf.targets import Targets

logger = logging.getLogger(__name__)


class WordEdit(Protocol):
    """Changes some words of all texts in place; None deletes a word."""

    def __call__(self, split: SplitTexts, words: NDArray[np.object_], generator: np.random.Generator) -> None:
        """Change ``words``, which begin as a copy of ``split.words``."""


@dataclass(frozen=True)
class Replace:
    """Puts other words in the places of some.

    Parameters
    ----------
    share : float
        Share of the words.
    replacements : Replacements
        Says how likely each word is replaced, and by what.
    """

    share: float
    replacements: Replacements

    def __call__(self, split: SplitTexts, words: NDArray[np.object_], generator: np.random.Generator) -> None:
        """Replace words."""
        chance = self.replacements.chances(split, self.share)
        chosen = np.flatnonzero(generator.random(len(words)) < chance)
        words[chosen] = self.replacements.draw(words[chosen].tolist(), generator)


@dataclass(frozen=True)
class Swap:
    """Lets pairs of words of one text change places.

    Parameters
    ----------
    share : float
        Share of the words that are moved.
    """

    share: float

    def __call__(self, split: SplitTexts, words: NDArray[np.object_], generator: np.random.Generator) -> None:
        """Swap words; every text keeps its multiset of words."""
        counts, first = split.counts[split.owners], split.offsets[split.owners]
        # Each swap moves two words.
        chosen = generator.random(len(words)) < self.share / 2
        others = (generator.random(len(words)) * (counts - 1)).astype(np.int64)
        others += first + (others >= np.arange(len(words)) - first)
        for here in np.flatnonzero(chosen & (counts > 1)).tolist():
            there = int(others[here])
            words[here], words[there] = words[there], words[here]


@dataclass(frozen=True)
class Delete:
    """Deletes words, but never all of a text.

    Parameters
    ----------
    share : float
        Share of the words.
    """

    share: float

    def __call__(self, split: SplitTexts, words: NDArray[np.object_], generator: np.random.Generator) -> None:
        """Delete words."""
        deleted = generator.random(len(words)) < self.share
        spared = split.offsets[:-1] + (generator.random(len(split.counts)) * split.counts).astype(np.int64)
        kept = np.bincount(split.owners[~deleted], minlength=len(split.counts))
        deleted[spared[(kept == 0) & (split.counts > 0)]] = False
        words[deleted] = None


@dataclass(frozen=True)
class WordEdits:
    """Replacement, swap and deletion of words, on texts that are split once (Wei and Zou 2019, arXiv:1901.11196).

    Their random insertion is left out: with one change of a text in an epoch it has no advantage over replacement.
    The number of changed words is drawn, a word at a time, where EDA changes a fixed number.

    Parameters
    ----------
    edits : tuple of WordEdit
        Applied one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("cold", "warm")).encode([["cold"]])
    >>> WordEdits((Delete(0.5),)).apply(["Snow, and cold wind!"], targets, np.random.default_rng(1))[0]
    ['Snow, and wind!']
    """

    edits: tuple[WordEdit, ...]

    @classmethod
    def make(cls, options: AugmentationOptions, corpus: Corpus) -> WordEdits | None:
        """Return the edits that are asked for, or None."""
        edits: list[WordEdit] = []
        if options.replacement:
            edits.append(Replace(options.replacement, _replacements(options, corpus)))
        elif options.synonyms is not None:
            logger.warning("AugmentationOptions: synonyms are given and replacement is 0, so no word is replaced.")
        if options.swap:
            edits.append(Swap(options.swap))
        if options.deletion:
            edits.append(Delete(options.deletion))
        if not edits:
            return None
        _warn_of_texts_without_words(corpus.texts)
        return cls(tuple(edits))

    def apply(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[list[str], Targets]:
        """Return changed texts, and the targets as they are."""
        split = split_words(texts)
        words = split.words.copy()
        for edit in self.edits:
            edit(split, words, generator)
        return split.join(texts, words), targets

    def fingerprint(self) -> str:
        """Return nothing: the options and the texts say all."""
        return ""


def _replacements(options: AugmentationOptions, corpus: Corpus) -> Replacements:
    if options.synonyms is not None:
        return Synonyms(options.synonyms)
    # A row of weight 0 is left out of training, and so are its words.
    used = (text for text, weight in zip(corpus.texts, corpus.weights.tolist(), strict=True) if weight > 0)
    return CorpusWords.count(split_words(used))


def _warn_of_texts_without_words(texts: Sequence[str]) -> None:
    """Say that a technique does nothing where most texts are of a script without spaces between words."""
    share = float(np.mean(split_words(texts).counts == 0))
    if share > 0.5:
        logger.warning(
            "AugmentationOptions: %.0f %% of the training texts have no words between spaces (Chinese, Japanese, Thai "
            "and others), and replacement, swap and deletion leave them as they are. Use masking or back_translation.",
            100 * share,
        )
