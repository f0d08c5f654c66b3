"""What techniques have in common: what they are made from, and how they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mlclf.encoding import EncodedTexts
from mlclf.targets import Targets

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Corpus:
    """The training texts, from which techniques are made.

    Parameters
    ----------
    texts : sequence of str, length n_samples
    weights : ndarray of float32, shape (n_samples,)
        Sample weights.
    lengths : ndarray of int64, shape (n_samples,)
        Tokens of each text, special tokens included.
    max_joint_length : int or None
        Most tokens of two texts, special tokens of both included, that are read together; None where no text is cut.
    tokenizer : tokenizers.Tokenizer
        Its special tokens are no text.
    """

    texts: Sequence[str]
    weights: NDArray[np.float32]
    lengths: NDArray[np.int64]
    max_joint_length: int | None
    tokenizer: Tokenizer


class RowTechnique(Protocol):
    """Changes texts, and targets where the text's labels change with it."""

    def apply(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[Sequence[str], Targets]:
        """Return the texts and targets of one epoch, in the order given.

        Parameters
        ----------
        texts : sequence of str, length n_samples
        targets : Targets
            Of the same length.
        generator : numpy.random.Generator
            The only source of chance.
        """

    def fingerprint(self) -> str:
        """Return what must be equal for a run to be continued and does not stand in the options; often empty."""


class TokenTechnique(Protocol):
    """Changes token ids; the number of tokens stays as it is."""

    def apply(self, encoded: EncodedTexts, generator: np.random.Generator) -> EncodedTexts:
        """Return the token ids of one epoch."""
