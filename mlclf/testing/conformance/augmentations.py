"""Checks of augmentations: what they make of texts, targets and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlclf.augmentation.base import Augmentation, Corpus
from mlclf.encoding import EncodedTexts
from mlclf.exceptions import ConformanceError
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.labels import LabelSpace, Targets
from mlclf.testing.conformance.learning import random_states
from mlclf.testing.conformance.results import NotApplicable
from mlclf.testing.conformance.samples import DIFFICULT_TEXTS
from mlclf.testing.conformance.workbench import Workbench
from mlclf.testing.fakes import tiny_labels, tiny_texts
from mlclf.testing.tiny_backbone import TinyBackbone, TinyOptions

_NAMES = ("animals", "food", "weather", "travel")
_SEED, _EPOCHS = 7, 4


@dataclass(frozen=True)
class AugmentedTexts:
    """Training texts, and the augmentation under test prepared for them.

    Parameters
    ----------
    bench : Workbench
    texts : list of str
    targets : Targets
        Some cells are not known.
    """

    bench: Workbench
    texts: list[str]
    targets: Targets

    @cached_property
    def backbone(self) -> Backbone:
        """What turns texts into tokens."""
        return self.bench.session.loaded(TinyBackbone, TinyOptions(), LoadRequest())

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Return texts as tokens."""
        return self.backbone.encode(texts)

    def made(self) -> Augmentation:
        """Return an augmentation that was prepared for the texts, a new one each time."""
        augmentation: Augmentation = self.bench.component(self.bench.options)
        augmentation.check()
        encoder = self.backbone.encoder
        corpus = Corpus(
            texts=list(self.texts),
            weights=np.ones(len(self.texts), dtype=np.float32),
            lengths=self.encode(self.texts).sample_lengths,
            max_joint_length=encoder.max_length + encoder.tokenizer.num_special_tokens_to_add(False),
            tokenizer=encoder.tokenizer,
        )
        augmentation.prepare(corpus)
        return augmentation

    def epoch(self, augmentation: Augmentation, number: int) -> tuple[list[str], Targets, EncodedTexts]:
        """Return texts, targets and tokens of an epoch, as training makes them."""
        texts, targets = augmentation.rows(self.texts, self.targets, _SEED, number)
        return list(texts), targets, augmentation.tokens(self.encode(list(texts)), _SEED, number)


def check_augmentation_rows(bench: Workbench) -> None:
    """Every epoch has one text and one row of targets for each that was given, in the order given."""
    rows = usual_texts(bench)
    augmentation = rows.made()
    for number in range(_EPOCHS):
        texts, targets = augmentation.rows(rows.texts, rows.targets, _SEED, number)
        _check_rows(rows, texts, targets)
        if sorted(texts) == sorted(rows.texts) and list(texts) != rows.texts:
            raise ConformanceError(
                "The texts come back in another order. Return them in the order given: weights and targets stand at "
                "the same places, and training draws an order of its own."
            )


def check_augmentation_tokens(bench: Workbench) -> None:
    """No token of an epoch is added, lost or foreign, special ones stay, and hides_tokens says whether any change."""
    rows = usual_texts(bench)
    augmentation, before = rows.made(), rows.encode(rows.texts)
    tokenizer = rows.backbone.encoder.tokenizer
    special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    for number in range(_EPOCHS):
        after = augmentation.tokens(before, _SEED, number)
        _check_tokens(before, after, tokenizer.get_vocab_size())
        changed = after.ids != before.ids
        if changed.any() and not augmentation.hides_tokens:
            raise ConformanceError(
                "Tokens change although hides_tokens is False, so that prompts could be changed too. Write "
                "change_tokens, or let hides_tokens be True."
            )
        if (changed & np.isin(before.ids, special)).any():
            raise ConformanceError(
                "Special tokens are changed. They are no text: leave out those that "
                "corpus.tokenizer.get_added_tokens_decoder() calls special."
            )


def check_augmentation_is_repeatable(bench: Workbench) -> None:
    """An epoch follows from seed and number alone: without the epochs before it, and without global random states."""
    rows = usual_texts(bench)
    with random_states() as unchanged:
        augmentation = rows.made()
        first = [rows.epoch(augmentation, number) for number in range(_EPOCHS)]
        if changed := unchanged():
            raise ConformanceError(
                f"The global random state of {changed} changes. Draw from the generator that is given, and from "
                "nothing else."
            )
        other = rows.made()
        for number in reversed(range(_EPOCHS)):
            if not _same_epoch(first[number], rows.epoch(other, number)):
                raise ConformanceError(
                    f"Epoch {number} is another one when it is made again, without the epochs before it. A resumed "
                    "run, and every process of a distributed one, must make the same: draw from the generator that is "
                    "given, keep nothing from one epoch to the next, and depend on no order of sets."
                )
    if not isinstance(augmentation.fingerprint(), str) or augmentation.fingerprint() != other.fingerprint():
        raise ConformanceError("fingerprint() must return a str, the same for the same options and texts.")


def check_augmentation_says_whether_it_changes_anything(bench: Workbench) -> str:
    """Where active is True some text, target or token changes within a few epochs, else none does."""
    rows = usual_texts(bench)
    augmentation = rows.made()
    plain = (rows.texts, rows.targets, rows.encode(rows.texts))
    epochs = [rows.epoch(augmentation, number) for number in range(2 * _EPOCHS)]
    different = [not _same_epoch(plain, epoch) for epoch in epochs]
    if augmentation.active and not any(different):
        raise ConformanceError(
            f"active is True, and nothing changes in {len(epochs)} epochs of {len(rows.texts)} texts, which are "
            "encoded anew in each of them for nothing. Return False from active where the options change nothing."
        )
    if any(different) and not augmentation.active:
        raise ConformanceError("active is False, so that training leaves it out, and yet it changes texts.")
    if not augmentation.active:
        raise NotApplicable("these options change nothing: check it with others, options={name: ...}")
    changed = np.mean([[a != b for a, b in zip(rows.texts, texts, strict=True)] for texts, _, _ in epochs])
    return f"{100 * changed:.0f} % of the texts change in an epoch"


def check_augmentation_leaves_its_input_alone(bench: Workbench) -> None:
    """Texts, targets and tokens that it is given stay as they were: the next epoch begins with them again."""
    rows = usual_texts(bench)
    augmentation, encoded = rows.made(), rows.encode(rows.texts)
    before = (list(rows.texts), _copied(rows.targets), _copied_tokens(encoded))
    for number in range(_EPOCHS):
        augmentation.rows(rows.texts, rows.targets, _SEED, number)
        augmentation.tokens(encoded, _SEED, number)
    after = (rows.texts, rows.targets, encoded)
    if not _same_epoch(before, after):
        raise ConformanceError(
            "It changes what it is given in place, so that changes add up over the epochs. Return a new list, new "
            "targets (Targets.take makes a copy), and dataclasses.replace(encoded, ids=...)."
        )


def check_augmentation_difficult_texts(bench: Workbench) -> None:
    """Empty texts, texts of one word and of other scripts stay texts, and none that says something becomes empty."""
    for texts in (DIFFICULT_TEXTS, ["", ""], ["cat", "dog", "rain"], ["cat"]):
        names = [["animals"] if text == "cat" else [] for text in texts]
        rows = AugmentedTexts(bench, list(texts), LabelSpace(_NAMES).encode(names))
        augmentation = rows.made()
        for number in range(2 * _EPOCHS):
            found, targets, _ = rows.epoch(augmentation, number)
            _check_rows(rows, found, targets)
            pairs = zip(texts, found, strict=True)
            if lost := next((text for text, new in pairs if text.strip() and not new.strip()), None):
                raise ConformanceError(
                    f"Nothing is left of {lost[:20]!r}, and its labels stay. Leave at least a word of every text."
                )


def usual_texts(bench: Workbench) -> AugmentedTexts:
    """Return 32 different short texts with their labels, one cell in eight not known."""
    texts = list(dict.fromkeys(tiny_texts(40)))[:32]
    cells = np.array([[name in names for name in _NAMES] for names in tiny_labels(texts)], dtype=np.float32)
    cells[::4, ::2] = np.nan
    return AugmentedTexts(bench, texts, LabelSpace(_NAMES).encode(cells))


def _check_rows(rows: AugmentedTexts, texts: Sequence[str], targets: Targets) -> None:
    """Refuse another number of texts or targets, and what is neither."""
    n = len(rows.texts)
    if len(texts) != n or isinstance(texts, str):
        raise ConformanceError(f"{n} texts became {len(texts)}. Return one for each, also where one is left alone.")
    if odd := next((text for text in texts if not isinstance(text, str)), None):
        raise ConformanceError(f"A text became {type(odd).__name__}: {odd!r}. Texts are str.")
    if not isinstance(targets, Targets) or (len(targets), targets.n_labels) != (n, rows.targets.n_labels):
        raise ConformanceError(
            f"Targets of shape {(n, rows.targets.n_labels)} became {type(targets).__name__}"
            f"{f' of shape {(len(targets), targets.n_labels)}' if isinstance(targets, Targets) else ''}. Return "
            "mlclf.targets.Targets with a row for each text; those given, where labels stay as they are."
        )
    if targets.unknown is not None and targets.indicator.multiply(targets.unknown).nnz:
        raise ConformanceError("A cell of the targets applies and is unknown at once.")


def _check_tokens(before: EncodedTexts, after: EncodedTexts, n_ids: int) -> None:
    """Refuse other numbers of tokens, and ids that are none."""
    if not isinstance(after, EncodedTexts) or len(after.ids) != len(before.ids):
        raise ConformanceError("change_tokens must return EncodedTexts with as many tokens as it was given.")
    if not _same_windows(before, after) or after.ids.dtype != before.ids.dtype:
        raise ConformanceError(
            "change_tokens moves the bounds of texts or changes the type of their ids. Return "
            "dataclasses.replace(encoded, ids=...) with ids of int32."
        )
    if after.ids.min() < 0 or after.ids.max() >= n_ids:
        raise ConformanceError(
            f"Ids from {after.ids.min()} to {after.ids.max()}: the tokenizer has {n_ids}, from 0 on."
        )


def _same_epoch(left: tuple[list[str], Targets, EncodedTexts], right: tuple[list[str], Targets, EncodedTexts]) -> bool:
    """Say whether texts, targets and tokens of two epochs are the same."""
    tokens = _same_windows(left[2], right[2]) and np.array_equal(left[2].ids, right[2].ids)
    return left[0] == right[0] and tokens and _same_targets(left[1], right[1])


def _same_windows(left: EncodedTexts, right: EncodedTexts) -> bool:
    return np.array_equal(left.window_offsets, right.window_offsets) and np.array_equal(
        left.sample_offsets, right.sample_offsets
    )


def _same_targets(left: Targets, right: Targets) -> bool:
    if (left.unknown is None) != (right.unknown is None):
        return False
    pairs = [(left.indicator, right.indicator)]
    if left.unknown is not None and right.unknown is not None:
        pairs.append((left.unknown, right.unknown))
    # The parts of the matrices, because a stored cell that was set to 0 is changed too.
    parts = ("data", "indices", "indptr")
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for a, b in pairs for part in parts)


def _copied(targets: Targets) -> Targets:
    return targets.take(np.arange(len(targets)))


def _copied_tokens(encoded: EncodedTexts) -> EncodedTexts:
    return EncodedTexts(encoded.ids.copy(), encoded.window_offsets.copy(), encoded.sample_offsets.copy())
