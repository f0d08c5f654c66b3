"""The augmentation ``standard``: built-in techniques in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from mlclf.augmentation.back_translation import BackTranslation, find_back_translation
from mlclf.augmentation.base import Augmentation, Corpus
from mlclf.augmentation.edits import WordEdits
from mlclf.augmentation.masking import SpanMasking
from mlclf.augmentation.mixing import Mixing
from mlclf.encoding import EncodedTexts
from mlclf.options import AugmentationOptions
from mlclf.targets import Targets


class RowTechnique(Protocol):
    """Changes texts, and targets where the text's labels change with it."""

    def apply(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[Sequence[str], Targets]:
        """Return the texts and targets of one epoch, in the order given."""

    def fingerprint(self) -> str:
        """Return what must be equal for a run to be continued and does not stand in the options; often empty."""


class TokenTechnique(Protocol):
    """Changes token ids; the number of tokens stays as it is."""

    def apply(self, encoded: EncodedTexts, generator: np.random.Generator) -> EncodedTexts:
        """Return the token ids of one epoch."""


# In order of application, each with the number of its random stream, so that a technique draws the same whether others
# are on or not. No number is 0: NumPy seeds [seed, epoch, 0] as [seed, epoch], the stream of the order of rows.
_ROW_TECHNIQUES: tuple[tuple[int, Callable[[AugmentationOptions, Corpus], RowTechnique | None]], ...] = (
    (1001, BackTranslation.make),
    (1002, WordEdits.make),
    (1003, Mixing.make),
)
_TOKEN_TECHNIQUES: tuple[tuple[int, Callable[[AugmentationOptions, Corpus], TokenTechnique | None]], ...] = (
    (2001, SpanMasking.make),
)


class StandardAugmentation(Augmentation):
    """Back-translation, changes of words, mixing and masking of tokens, in this order, as far as they are asked for.

    Parameters
    ----------
    options : AugmentationOptions

    Attributes
    ----------
    row_techniques : tuple of (int, RowTechnique)
        Random stream and technique; set by ``prepare``.
    token_techniques : tuple of (int, TokenTechnique)
        The same, after the texts are token ids.
    """

    Options = AugmentationOptions
    options: AugmentationOptions
    row_techniques: tuple[tuple[int, RowTechnique], ...] = ()
    token_techniques: tuple[tuple[int, TokenTechnique], ...] = ()

    @property
    def active(self) -> bool:
        """Whether any technique is asked for."""
        return bool(self.row_techniques or self.token_techniques)

    @property
    def hides_tokens(self) -> bool:
        """Whether tokens are masked."""
        return self.options.masking > 0

    def check(self) -> None:
        """Refuse a back-translation that is not registered.

        Raises
        ------
        OptionsError
        """
        if self.options.back_translation is not None:
            find_back_translation(self.options.back_translation)

    def prepare(self, corpus: Corpus) -> None:
        """Make the techniques that the options ask for.

        Raises
        ------
        OptionsError, InvalidInputError
            If a back-translation is not registered, or does not return one text for each.
        IncompatibleComponentsError
            If tokens are to be masked and the tokenizer has no mask token.
        """
        rows = [(stream, make(self.options, corpus)) for stream, make in _ROW_TECHNIQUES]
        tokens = [(stream, make(self.options, corpus)) for stream, make in _TOKEN_TECHNIQUES]
        self.row_techniques = tuple((stream, technique) for stream, technique in rows if technique is not None)
        self.token_techniques = tuple((stream, technique) for stream, technique in tokens if technique is not None)

    def rows(self, texts: Sequence[str], targets: Targets, seed: int, epoch: int) -> tuple[Sequence[str], Targets]:
        """Return the texts and targets of an epoch; the same for the same seed and epoch."""
        for stream, technique in self.row_techniques:
            texts, targets = technique.apply(texts, targets, np.random.default_rng([seed, epoch, stream]))
        return texts, targets

    def tokens(self, encoded: EncodedTexts, seed: int, epoch: int) -> EncodedTexts:
        """Return the token ids of an epoch; the same for the same seed and epoch."""
        for stream, technique in self.token_techniques:
            encoded = technique.apply(encoded, np.random.default_rng([seed, epoch, stream]))
        return encoded

    def fingerprint(self) -> str:
        """Return what back-translation was made of, as its function is no option."""
        return " ".join(found for _, technique in self.row_techniques if (found := technique.fingerprint()))
