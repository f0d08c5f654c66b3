"""The conformance kit on augmentations: each rule is kept by good ones, and seen to be broken where it is."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from conformance_kit import checks_of_kind, failures, report_of

from mlclf import AugmentationOptions
from mlclf.interfaces import Augmentation
from mlclf.options import NamedOptions
from mlclf.testing import component_checks, run_checks


class GoodAugmentationOptions(NamedOptions):
    component: ClassVar[str] = "local:good-augmentation"


class GoodAugmentation(Augmentation):
    """Some texts in upper case."""

    Options: ClassVar[type[NamedOptions]] = GoodAugmentationOptions

    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return [text.upper() if generator.random() < 0.5 else text for text in texts], targets


class GoodTokens(Augmentation):
    """Some tokens are replaced by the mask token."""

    Options: ClassVar[type[NamedOptions]] = GoodAugmentationOptions

    def prepare(self, corpus: Any) -> None:
        added = corpus.tokenizer.get_added_tokens_decoder()
        self.special = [i for i, token in added.items() if token.special]
        self.mask = corpus.tokenizer.token_to_id("[MASK]")

    def change_tokens(self, encoded: Any, generator: Any) -> Any:
        drawn = (generator.random(len(encoded.ids)) < 0.2) & ~np.isin(encoded.ids, self.special)
        return replace(encoded, ids=np.where(drawn, np.int32(self.mask), encoded.ids))


@pytest.mark.parametrize("component", [GoodAugmentation, GoodTokens])
def test_an_augmentation_that_keeps_the_rules_passes(component: type[Any]) -> None:
    assert report_of(component).of("failed") == ()


VARIANTS = [
    AugmentationOptions(deletion=0.5),
    AugmentationOptions(masking=0.5, masking_span=1),
    AugmentationOptions(mixing=1),
    AugmentationOptions(swap=1, replacement=1),
]


@pytest.mark.parametrize("options", VARIANTS, ids=repr)
def test_built_in_techniques_keep_the_rules_under_other_options(options: AugmentationOptions) -> None:
    checks = [
        check
        for check in component_checks("augmentation", options.component, options=options)
        if "check_augmentation" in check.name
    ]
    run_checks(checks).raise_for_failures()


def test_an_augmentation_whose_options_change_nothing_asks_for_others() -> None:
    checks = component_checks("augmentation", "standard", options=AugmentationOptions())
    report = run_checks([c for c in checks if c.name == "check_augmentation_says_whether_it_changes_anything"])
    assert "these options change nothing" in str(report)


class Loses(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return texts[1:], targets


class LosesTargets(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return texts, targets.take(np.arange(len(texts) - 1))


class Matrices(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return texts, targets.indicator.toarray()


class NoTexts(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return [text.split() for text in texts], targets


class Shuffles(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        order = generator.permutation(len(texts))
        return [texts[i] for i in order], targets.take(order)


class MasksSpecialTokens(GoodTokens):
    def prepare(self, corpus: Any) -> None:
        super().prepare(corpus)
        self.special = []


class Shortens(GoodTokens):
    def change_tokens(self, encoded: Any, generator: Any) -> Any:
        return replace(encoded, ids=encoded.ids[:-1])


class LongIds(GoodTokens):
    def change_tokens(self, encoded: Any, generator: Any) -> Any:
        return replace(encoded, ids=encoded.ids.astype(np.int64))


class BeyondTheVocabulary(GoodTokens):
    def prepare(self, corpus: Any) -> None:
        super().prepare(corpus)
        self.mask = 1_000_000


class HidesInSecret(GoodTokens):
    @property
    def hides_tokens(self) -> bool:
        return False


class GlobalDraws(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return [t.upper() if np.random.random() < 0.5 else t for t in texts], targets  # noqa: NPY002


class PythonDraws(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return [t.upper() if random.random() < 0.5 else t for t in texts], targets


class AddsUp(GoodAugmentation):
    """Each epoch begins with the texts of the one before."""

    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        self.texts = [text + "!" for text in getattr(self, "texts", texts)]
        return self.texts, targets


class OtherFingerprints(GoodAugmentation):
    def fingerprint(self) -> str:
        return str(id(self))


class Idle(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return list(texts), targets


class SaysNothing(GoodAugmentation):
    @property
    def active(self) -> bool:
        return False


class InPlaceTexts(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        texts[0] = texts[0].upper()
        return texts, targets


class InPlaceTargets(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        targets.indicator.data[:1] = 0
        return list(texts), targets


class InPlaceTokens(GoodTokens):
    def change_tokens(self, encoded: Any, generator: Any) -> Any:
        encoded.ids[1] = self.mask
        return encoded


class FirstWordAlone(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return [text.split()[0] for text in texts], targets


class EmptiesTexts(GoodAugmentation):
    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        kept = [[word for word in text.split() if generator.random() < 0.5] for text in texts]
        return [" ".join(words) for words in kept], targets


BROKEN = [
    (Loses, "check_augmentation_rows"),
    (LosesTargets, "check_augmentation_rows"),
    (Matrices, "check_augmentation_rows"),
    (NoTexts, "check_augmentation_rows"),
    (Shuffles, "check_augmentation_rows"),
    (MasksSpecialTokens, "check_augmentation_tokens"),
    (Shortens, "check_augmentation_tokens"),
    (LongIds, "check_augmentation_tokens"),
    (BeyondTheVocabulary, "check_augmentation_tokens"),
    (HidesInSecret, "check_augmentation_tokens"),
    (GlobalDraws, "check_augmentation_is_repeatable"),
    (PythonDraws, "check_augmentation_is_repeatable"),
    (AddsUp, "check_augmentation_is_repeatable"),
    (OtherFingerprints, "check_augmentation_is_repeatable"),
    (Idle, "check_augmentation_says_whether_it_changes_anything"),
    (SaysNothing, "check_augmentation_says_whether_it_changes_anything"),
    (InPlaceTexts, "check_augmentation_leaves_its_input_alone"),
    (InPlaceTargets, "check_augmentation_leaves_its_input_alone"),
    (InPlaceTokens, "check_augmentation_leaves_its_input_alone"),
    (FirstWordAlone, "check_augmentation_difficult_texts"),
    (EmptiesTexts, "check_augmentation_difficult_texts"),
    (GlobalDraws, "check_fit_is_repeatable"),
]


@pytest.mark.parametrize(("component", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_augmentation_fails_the_check_of_its_fault(component: type[Any], check: str) -> None:
    assert failures(component, check) == {check}


def test_every_check_of_augmentations_is_seen_to_fail() -> None:
    assert checks_of_kind("augmentation") <= {check for _, check in BROKEN}


def test_a_failure_says_what_to_change() -> None:
    assert "in the order given" in str(report_of(Shuffles, "check_augmentation_rows"))
