"""Training rows epoch by epoch: one data set for all of them, or texts that are augmented anew in each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from mlclf.augmentation.back_translation import find_back_translation
from mlclf.augmentation.base import Corpus
from mlclf.augmentation.techniques import Augmentation, make_augmentation
from mlclf.batching import EncodedDataset
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError
from mlclf.interfaces import Backbone, Head
from mlclf.options import AugmentationOptions


class EpochData(Protocol):
    """Training rows, of which each epoch may see another form; :class:`EncodedDataset` gives the same in all."""

    def __len__(self) -> int:
        """Return the number of rows, which is the same in every epoch."""

    def epoch(self, number: int) -> EncodedDataset:
        """Return the rows of an epoch, in an order that never changes.

        Parameters
        ----------
        number : int
            From 0; a resumed run asks for the epoch it stopped in, without those before.
        """


@dataclass(frozen=True)
class AugmentedRows:
    """Training rows whose texts are changed anew, and encoded in bulk, at the start of each epoch.

    Parameters
    ----------
    original : EncodedDataset
        The rows as they are, with targets.
    texts : sequence of str, length n_samples
    augmentation : Augmentation
    seed : int
        An epoch depends on it and on the epoch's number only.
    """

    original: EncodedDataset
    texts: Sequence[str]
    augmentation: Augmentation
    seed: int

    def __len__(self) -> int:
        return len(self.original)

    def epoch(self, number: int) -> EncodedDataset:
        """Return the augmented rows of an epoch."""
        backbone, head, targets = self.original.backbone, self.original.head, self.original.targets
        assert targets is not None
        texts, targets = self.augmentation.apply_to_rows(self.texts, targets, self.seed, number)
        encoded = self.augmentation.apply_to_tokens(head.encode(backbone, texts), self.seed, number)
        return EncodedDataset(backbone, head, encoded, targets)


def check_augmentation(options: AugmentationOptions | None, backbone: type[Backbone], head: type[Head]) -> None:
    """Refuse augmentation that these components cannot be trained with; nothing is loaded.

    Parameters
    ----------
    options : AugmentationOptions or None
    backbone, head : type
        Classes of the components.

    Raises
    ------
    OptionsError
        If a back-translation is not registered.
    IncompatibleComponentsError
        If tokens are to be masked and a component puts tokens of its own among those of the texts.
    """
    if options is None:
        return
    if options.back_translation is not None:
        find_back_translation(options.back_translation)
    if options.masking:
        for kind, component, own in (
            ("Backbone", backbone, backbone.encode is not Backbone.encode),
            ("Head", head, (head.encode, head.text_encoder) != (Head.encode, Head.text_encoder)),
        ):
            if own:
                raise IncompatibleComponentsError(
                    f"{kind} {component.Options.component!r} turns texts into tokens in a way of its own, such as a "
                    "prompt around them, and AugmentationOptions(masking=...) could hide what it puts there. Use "
                    "deletion instead."
                )


def make_epoch_data(
    options: AugmentationOptions | None,
    original: EncodedDataset,
    texts: Sequence[str],
    weights: NDArray[np.float32],
    seed: int,
) -> EpochData:
    """Return the rows themselves, or augmented ones where the options change anything.

    Parameters
    ----------
    options : AugmentationOptions or None
    original : EncodedDataset
        Training rows with targets.
    texts : sequence of str, length n_samples
        Their texts.
    weights : ndarray of float32, shape (n_samples,)
    seed : int

    Raises
    ------
    OptionsError, InvalidInputError, IncompatibleComponentsError
        As of :func:`check_augmentation` and :func:`mlclf.augmentation.techniques.make_augmentation`.
    """
    check_augmentation(options, type(original.backbone), type(original.head))
    encoder = original.head.text_encoder(original.backbone)
    joint = encoder.max_length + encoder.tokenizer.num_special_tokens_to_add(False)
    corpus = Corpus(
        texts=texts,
        weights=weights,
        lengths=original.encoded.sample_lengths,
        max_joint_length=joint if encoder.window_stride is None else None,
        tokenizer=encoder.tokenizer,
    )
    augmentation = make_augmentation(options, corpus)
    return original if augmentation is None else AugmentedRows(original, texts, augmentation, seed)


_TRANSLATIONS = "back-translations"


def augmentation_fingerprint(rows: EpochData) -> dict[str, str]:
    """Return what must be equal for a run to be continued, beside data and options; empty where that is all."""
    parts = rows.augmentation.fingerprint() if isinstance(rows, AugmentedRows) else []
    return {_TRANSLATIONS: hashlib.sha256(" ".join(parts).encode()).hexdigest()} if parts else {}


def check_same_translations(fingerprint: dict[str, Any], accelerator: Accelerator) -> None:
    """Refuse to train in several processes whose back-translations differ: their rows would not be the same.

    Parameters
    ----------
    fingerprint : dict
        Of this process's run.
    accelerator : Accelerator

    Raises
    ------
    InvalidInputError
    """
    if accelerator.num_processes == 1 or _TRANSLATIONS not in fingerprint:
        return
    found: list[str] = gather_object([fingerprint[_TRANSLATIONS]])
    if len(set(found)) > 1:
        raise InvalidInputError(
            "The processes of this run have different back-translations. Register a function that answers alike in "
            "every process, and give all of them the same X, Y and random_state."
        )
