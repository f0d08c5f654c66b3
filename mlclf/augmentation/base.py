"""What augmentations have in common: what they are made from, and how they are called."""

from __future__ import annotations

import zlib
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlclf.encoding import EncodedTexts
from mlclf.options import NamedOptions
from mlclf.targets import Targets

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Random streams of texts and of tokens. No number is 0: NumPy seeds [seed, epoch, 0] as [seed, epoch], the stream of
# the order of rows.
_TEXTS, _TOKENS = 1, 2


@dataclass(frozen=True)
class Corpus:
    """The training texts, from which augmentations are made.

    Parameters
    ----------
    texts : sequence of str, length n_samples
        As they are, in the order of the rows.
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


class Augmentation(ABC):  # each of the two methods may be left as it is, and one of them is written
    """Base of all augmentations: training texts that are changed anew in every epoch; validation texts never are.

    The life of an augmentation: ``check``, before anything is loaded -> ``prepare``, once the texts are encoded -> in
    every epoch ``rows``, which calls ``change_texts``, and ``tokens``, which calls ``change_tokens``. Subclasses write
    one of these two. The only source of chance is the generator that they are given, so that a resumed run and every
    process of a distributed one make the same texts.

    Parameters
    ----------
    options : NamedOptions
        An object of the class named in ``Options``.

    Attributes
    ----------
    Options : type
        Class of its options, whose ``component`` is the registered name; must be set.

    Examples
    --------
    A whole augmentation, which writes some texts in upper case:

    >>> import numpy as np
    >>> from mlclf.interfaces import Augmentation
    >>> from mlclf.options import NamedOptions
    >>> class ShoutingOptions(NamedOptions):
    ...     component = "local:shouting"
    ...     share: float = 0.5
    >>> class Shouting(Augmentation):
    ...     Options = ShoutingOptions
    ...     def change_texts(self, texts, targets, generator):
    ...         chosen = generator.random(len(texts)) < self.options.share
    ...         return [text.upper() if c else text for text, c in zip(texts, chosen)], targets
    >>> Shouting(ShoutingOptions(share=1)).rows(["good food"], targets=None, seed=0, epoch=0)[0]
    ['GOOD FOOD']
    """

    Options: ClassVar[type[NamedOptions]]

    def __init__(self, options: NamedOptions) -> None:
        self.options = options

    @property
    def active(self) -> bool:
        """Whether anything changes under these options and texts; where nothing does, texts are encoded once."""
        return True

    @property
    def hides_tokens(self) -> bool:
        """Whether tokens are changed in a way that must not touch those which a head or backbone adds to a text."""
        return type(self).change_tokens is not Augmentation.change_tokens

    def check(self) -> None:
        """Raise OptionsError where the options cannot be used; called before anything is loaded."""

    def prepare(self, corpus: Corpus) -> None:
        """Compute once what needs all training texts, such as counts of words.

        Parameters
        ----------
        corpus : Corpus
        """

    def change_texts(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[Sequence[str], Targets]:
        """Return the texts of one epoch, and targets where the labels change with them.

        Parameters
        ----------
        texts : sequence of str, length n_samples
        targets : Targets
            Of the same length.
        generator : numpy.random.Generator
            The only source of chance.

        Returns
        -------
        texts : sequence of str, length n_samples
            In the order given; a list of its own where anything changes. A text that says something is never left
            empty, because its labels would stay.
        targets : Targets
            Of the same length.
        """
        return texts, targets

    def change_tokens(self, encoded: EncodedTexts, generator: np.random.Generator) -> EncodedTexts:
        """Return the token ids of one epoch; the number of tokens stays as it is.

        Parameters
        ----------
        encoded : EncodedTexts
            All texts of the epoch.
        generator : numpy.random.Generator
            The only source of chance.
        """
        return encoded

    def rows(self, texts: Sequence[str], targets: Targets, seed: int, epoch: int) -> tuple[Sequence[str], Targets]:
        """Return the texts and targets of an epoch; the same for the same seed and epoch."""
        return self.change_texts(texts, targets, self._generator(seed, epoch, _TEXTS))

    def tokens(self, encoded: EncodedTexts, seed: int, epoch: int) -> EncodedTexts:
        """Return the token ids of an epoch; the same for the same seed and epoch."""
        return self.change_tokens(encoded, self._generator(seed, epoch, _TOKENS))

    def fingerprint(self) -> str:
        """Return what must be equal for a run to be continued and does not stand in the options; often empty."""
        return ""

    def _generator(self, seed: int, epoch: int, stream: int) -> np.random.Generator:
        """Return a stream of its own for each augmentation, so that it draws the same whether others are on or not."""
        name = zlib.crc32(type(self.options).component.encode())
        return np.random.default_rng([seed, epoch, name, stream])
