"""Back-translation by a function of the user: registered under a name, called once before training."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlclf.augmentation.base import Corpus
from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.hints import did_you_mean
from mlclf.options import AugmentationOptions
from mlclf.targets import Targets

logger = logging.getLogger(__name__)

Translate = Callable[[list[str]], list[str]]

_REGISTERED: dict[str, Translate] = {}


def register_back_translation(name: str, function: Translate) -> None:
    """Name a function that translates texts to another language and back.

    ``AugmentationOptions(back_translation=name)`` then uses it in this process. Options, and saved models with them,
    hold the name only: nothing is imported when a model is loaded, and no function is needed then. A function of the
    same name is replaced.

    Parameters
    ----------
    name : str
        Any name.
    function : callable
        Maps a list of texts to as many texts; called once in a fit, with all training texts. The same texts must give
        the same answers, or a run cannot be resumed and several processes cannot train together.

    Raises
    ------
    OptionsError
        If the name is empty or the function cannot be called.

    Examples
    --------
    >>> from mlclf import register_back_translation
    >>> register_back_translation("shout", lambda texts: [text.upper() for text in texts])
    """
    if not isinstance(name, str) or not name.strip():
        raise OptionsError(f"A back-translation is registered under a name, got {name!r}.")
    if not callable(function):
        raise OptionsError(
            f"Back-translation {name!r} must be a function from a list of texts to a list of texts, got {function!r}."
        )
    _REGISTERED[name] = function


def find_back_translation(name: str) -> Translate:
    """Return a registered function.

    Raises
    ------
    OptionsError
        If nothing was registered under that name.
    """
    if name not in _REGISTERED:
        raise OptionsError(
            f"AugmentationOptions(back_translation={name!r}): no function of that name is registered in this process."
            f"{did_you_mean(name, _REGISTERED)} Call mlclf.register_back_translation({name!r}, function) before fit, "
            "where function turns a list of texts into a list of as many texts."
        )
    return _REGISTERED[name]


@dataclass(frozen=True)
class BackTranslation:
    """Takes a share of the texts as they were translated back (Sennrich et al. 2016, arXiv:1511.06709).

    Parameters
    ----------
    translations : list of str, length n_samples
        Each training text as it was translated back.
    share : float
        Share of the texts.
    """

    translations: list[str]
    share: float

    @classmethod
    def make(cls, options: AugmentationOptions, corpus: Corpus) -> BackTranslation | None:
        """Translate all training texts where it is asked for; else return None.

        Raises
        ------
        OptionsError
            If no function of that name is registered.
        InvalidInputError
            If the function does not return one text for each.
        """
        if options.back_translation is None:
            return None
        translated = _translate(options.back_translation, list(corpus.texts))
        return cls(translated, options.back_translation_share)

    def apply(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[list[str], Targets]:
        """Return texts, some of them translated, and the targets as they are."""
        chosen = (generator.random(len(texts)) < self.share).tolist()
        pairs = zip(texts, self.translations, chosen, strict=True)
        return [translated if use else text for text, translated, use in pairs], targets

    def fingerprint(self) -> str:
        """Return the checksum of the translations."""
        digest = hashlib.sha256()
        for text in self.translations:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


def _translate(name: str, texts: list[str]) -> list[str]:
    """Call a registered function and check what it returns; a text that came back empty stays as it was."""
    translated = find_back_translation(name)(list(texts))
    if not isinstance(translated, Sequence) or isinstance(translated, str) or len(translated) != len(texts):
        got = f"{len(translated)} values" if isinstance(translated, Sequence) else type(translated).__name__
        raise InvalidInputError(
            f"Back-translation {name!r} must return a list of {len(texts)} texts, one for each it was given; got {got}."
        )
    wrong = next((i for i, text in enumerate(translated) if not isinstance(text, str)), None)
    if wrong is not None:
        raise InvalidInputError(
            f"Back-translation {name!r} must return texts; got {translated[wrong]!r} for text {wrong}."
        )
    blank = [i for i, text in enumerate(translated) if not text.strip()]
    if blank:
        logger.warning("Back-translation %r returned %d empty texts: these stay as they were.", name, len(blank))
    return [after if after.strip() else before for before, after in zip(texts, translated, strict=True)]
