"""Training rows epoch by epoch: one data set for all of them, or texts that are augmented anew in each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from mlclf.augmentation.base import Augmentation, Corpus
from mlclf.batching import EncodedDataset
from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError, OptionsError
from mlclf.interfaces import Backbone, Head
from mlclf.options import AugmentationChoice, NamedOptions, TrainingOptions
from mlclf.plugins.registry import resolve, resolve_named


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
    augmentations : tuple of Augmentation
        In order of application.
    seed : int
        An epoch depends on it and on the epoch's number only.
    """

    original: EncodedDataset
    texts: Sequence[str]
    augmentations: tuple[Augmentation, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.original)

    def epoch(self, number: int) -> EncodedDataset:
        """Return the augmented rows of an epoch.

        Raises
        ------
        InvalidInputError
            If an augmentation changed the number of texts, targets or tokens.
        """
        backbone, head, targets = self.original.backbone, self.original.head, self.original.targets
        assert targets is not None
        texts = self.texts
        for augmentation in self.augmentations:
            texts, targets = augmentation.rows(texts, targets, self.seed, number)
            _check_count(augmentation, "text", len(texts), len(self))
            _check_count(augmentation, "row of targets", len(targets), len(self))
        encoded = head.encode(backbone, texts)
        for augmentation in self.augmentations:
            n_tokens = len(encoded.ids)
            encoded = augmentation.tokens(encoded, self.seed, number)
            _check_count(augmentation, "token", len(encoded.ids), n_tokens)
        return EncodedDataset(backbone, head, encoded, targets)


def _check_count(augmentation: Augmentation, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise InvalidInputError(
            f"Augmentation {augmentation.options.component!r} must return one {what} for each, in their order: it was "
            f"given {expected} and returned {found}."
        )


def augmentation_options(choice: AugmentationChoice) -> tuple[NamedOptions, ...]:
    """Return the checked options of the augmentations that ``TrainingOptions(augmentation=...)`` chooses, in order.

    Raises
    ------
    OptionsError
        If an option breaks its rule, or one augmentation is named twice.
    UnknownComponentError, PluginError
        If there is no such augmentation, or its plugin cannot be used.
    """
    if choice is None:
        return ()
    parts = choice if isinstance(choice, tuple) else (choice,)
    found = tuple(cast(NamedOptions, resolve_named("augmentation", part)) for part in parts)
    names = [options.component for options in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionsError(f"TrainingOptions(augmentation=...) has {twice!r} twice. Give one with all its options.")
    return found


def resolved_training(training: TrainingOptions) -> TrainingOptions:
    """Return training options read from a file, with dictionaries of augmentations turned into their options."""
    choice = training.augmentation
    parts = choice if isinstance(choice, tuple) else (choice,)
    made = tuple(resolve_named("augmentation", part) if isinstance(part, dict) else part for part in parts)
    return training.replace(augmentation=made if isinstance(choice, tuple) else made[0])


def check_augmentation(choice: AugmentationChoice, backbone: type[Backbone], head: type[Head]) -> None:
    """Refuse augmentation that these components cannot be trained with; nothing is loaded.

    Parameters
    ----------
    choice : AugmentationOptions, str, Options, tuple of these, or None
    backbone, head : type
        Classes of the components.

    Raises
    ------
    OptionsError, PluginError
        If there is no such augmentation, or its options cannot be used.
    IncompatibleComponentsError
        If tokens are to be hidden and a component puts tokens of its own among those of the texts.
    """
    for augmentation in _made(choice):
        augmentation.check()
        if augmentation.hides_tokens:
            _check_plain_tokens(augmentation, backbone, head)


def _made(choice: AugmentationChoice) -> tuple[Augmentation, ...]:
    return tuple(resolve("augmentation", options)[1](options) for options in augmentation_options(choice))


def _check_plain_tokens(augmentation: Augmentation, backbone: type[Backbone], head: type[Head]) -> None:
    name = augmentation.options.component
    what = "AugmentationOptions(masking=...)" if name == "standard" else f"augmentation {name!r}"
    for kind, component, own in (
        ("Backbone", backbone, backbone.encode is not Backbone.encode),
        ("Head", head, (head.encode, head.text_encoder) != (Head.encode, Head.text_encoder)),
    ):
        if own:
            raise IncompatibleComponentsError(
                f"{kind} {component.Options.component!r} turns texts into tokens in a way of its own, such as a "
                f"prompt around them, and {what} could hide what it puts there. Use AugmentationOptions(deletion=...) "
                "instead."
            )


def make_epoch_data(
    choice: AugmentationChoice,
    original: EncodedDataset,
    texts: Sequence[str],
    weights: NDArray[np.float32],
    seed: int,
) -> EpochData:
    """Return the rows themselves, or augmented ones where the choice changes anything.

    Parameters
    ----------
    choice : AugmentationOptions, str, Options, tuple of these, or None
    original : EncodedDataset
        Training rows with targets.
    texts : sequence of str, length n_samples
        Their texts.
    weights : ndarray of float32, shape (n_samples,)
    seed : int

    Raises
    ------
    OptionsError, InvalidInputError, IncompatibleComponentsError
        As of :func:`check_augmentation`, and whatever an augmentation's ``prepare`` raises.
    """
    check_augmentation(choice, type(original.backbone), type(original.head))
    encoder = original.head.text_encoder(original.backbone)
    joint = encoder.max_length + encoder.tokenizer.num_special_tokens_to_add(False)
    corpus = Corpus(
        texts=texts,
        weights=weights,
        lengths=original.encoded.sample_lengths,
        max_joint_length=joint if encoder.window_stride is None else None,
        tokenizer=encoder.tokenizer,
    )
    augmentations = _made(choice)
    for augmentation in augmentations:
        augmentation.prepare(corpus)
    active = tuple(augmentation for augmentation in augmentations if augmentation.active)
    return AugmentedRows(original, texts, active, seed) if active else original


_TRANSLATIONS = "back-translations"


def augmentation_fingerprint(rows: EpochData) -> dict[str, str]:
    """Return what must be equal for a run to be continued, beside data and options; empty where that is all."""
    made = rows.augmentations if isinstance(rows, AugmentedRows) else ()
    parts = [found for augmentation in made if (found := augmentation.fingerprint())]
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
