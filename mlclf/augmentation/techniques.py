"""All techniques in order: from options to what changes the texts of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlclf.augmentation.back_translation import BackTranslation
from mlclf.augmentation.base import Corpus, RowTechnique, TokenTechnique
from mlclf.augmentation.edits import WordEdits
from mlclf.augmentation.masking import SpanMasking
from mlclf.augmentation.mixing import Mixing
from mlclf.encoding import EncodedTexts
from mlclf.options import AugmentationOptions
from mlclf.targets import Targets

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


@dataclass(frozen=True)
class Augmentation:
    """What changes training texts, in order.

    Parameters
    ----------
    rows : tuple of (int, RowTechnique)
        Random stream and technique.
    tokens : tuple of (int, TokenTechnique)
        The same, after the texts are token ids.
    """

    rows: tuple[tuple[int, RowTechnique], ...]
    tokens: tuple[tuple[int, TokenTechnique], ...]

    def apply_to_rows(
        self, texts: Sequence[str], targets: Targets, seed: int, epoch: int
    ) -> tuple[Sequence[str], Targets]:
        """Return the texts and targets of an epoch; the same for the same seed and epoch."""
        for stream, technique in self.rows:
            texts, targets = technique.apply(texts, targets, np.random.default_rng([seed, epoch, stream]))
        return texts, targets

    def apply_to_tokens(self, encoded: EncodedTexts, seed: int, epoch: int) -> EncodedTexts:
        """Return the token ids of an epoch; the same for the same seed and epoch."""
        for stream, technique in self.tokens:
            encoded = technique.apply(encoded, np.random.default_rng([seed, epoch, stream]))
        return encoded

    def fingerprint(self) -> list[str]:
        """Return what must be equal for a run to be continued and does not stand in the options."""
        return [found for _, technique in self.rows if (found := technique.fingerprint())]


def make_augmentation(options: AugmentationOptions | None, corpus: Corpus) -> Augmentation | None:
    """Return the techniques that options ask for, or None where nothing would change.

    Parameters
    ----------
    options : AugmentationOptions or None
    corpus : Corpus
        The training texts.

    Raises
    ------
    OptionsError, InvalidInputError
        If a back-translation is not registered, or does not return one text for each.
    IncompatibleComponentsError
        If tokens are to be masked and the tokenizer has no mask token.
    """
    if options is None:
        return None
    rows = [(stream, make(options, corpus)) for stream, make in _ROW_TECHNIQUES]
    tokens = [(stream, make(options, corpus)) for stream, make in _TOKEN_TECHNIQUES]
    found = Augmentation(
        rows=tuple((stream, technique) for stream, technique in rows if technique is not None),
        tokens=tuple((stream, technique) for stream, technique in tokens if technique is not None),
    )
    return found if found.rows or found.tokens else None
