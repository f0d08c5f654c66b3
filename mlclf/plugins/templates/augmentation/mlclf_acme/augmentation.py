"""Augmentation ``acme:augmentation``: neighbouring letters that change places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from mlclf.interfaces import Augmentation
from mlclf.options import NamedOptions
from mlclf.targets import Targets


class AcmeAugmentationOptions(NamedOptions):
    """Options of the augmentation ``acme:augmentation``.

    Parameters
    ----------
    rate : float
        Share of the texts in which two letters change places.
    """

    component: ClassVar[str] = "acme:augmentation"

    rate: float = Field(default=0.2, ge=0, le=1)


class AcmeAugmentation(Augmentation):
    """Two neighbouring letters of some texts change places, as in a slip of the keyboard; labels stay as they are.

    One that changes token ids writes ``change_tokens`` instead of ``change_texts``; what needs all training texts, such
    as counts of words, is computed once in ``prepare``.

    Parameters
    ----------
    options : AcmeAugmentationOptions
    """

    Options: ClassVar[type[NamedOptions]] = AcmeAugmentationOptions
    options: AcmeAugmentationOptions

    @property
    def active(self) -> bool:
        """Whether anything changes under these options; where nothing does, texts are encoded only once."""
        return self.options.rate > 0

    def change_texts(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[Sequence[str], Targets]:
        """Return one text for each, in the order given. The generator is the only source of chance."""
        chosen = generator.random(len(texts)) < self.options.rate
        changed = [_slip(text, generator) if c else text for text, c in zip(texts, chosen, strict=True)]
        return changed, targets


def _slip(text: str, generator: np.random.Generator) -> str:
    """Return a text in which two neighbours change places; what is shorter stays as it is."""
    if len(text) < 2:
        return text
    at = int(generator.integers(len(text) - 1))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
