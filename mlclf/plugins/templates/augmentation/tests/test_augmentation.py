"""What this augmentation does; the rules that all augmentations keep are in test_conformance.py."""

import pytest
from mlclf_acme.augmentation import AcmeAugmentation, AcmeAugmentationOptions

from mlclf.exceptions import OptionsError
from mlclf.labels import LabelSpace, Targets
from mlclf.testing import tiny_texts


def targets_of(texts: list[str]) -> Targets:
    return LabelSpace(("joy", "fear")).encode([[] for _ in texts])


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_a_share_of_the_texts_changes_and_no_letter_is_lost(rate: float) -> None:
    texts = tiny_texts(500)
    augmentation = AcmeAugmentation(AcmeAugmentationOptions(rate=rate))
    changed, _ = augmentation.rows(texts, targets_of(texts), seed=0, epoch=0)
    assert [sorted(text) for text in changed] == [sorted(text) for text in texts]
    share = sum(before != after for before, after in zip(texts, changed, strict=True)) / len(texts)
    # Two equal letters that change places leave a text as it is.
    assert 0.7 * rate < share < 1.3 * rate


def test_a_rate_of_zero_changes_nothing_and_says_so() -> None:
    augmentation = AcmeAugmentation(AcmeAugmentationOptions(rate=0))
    texts = ["good food"]
    assert not augmentation.active
    assert augmentation.rows(texts, targets_of(texts), seed=0, epoch=0)[0] == texts


def test_a_rate_is_a_share() -> None:
    with pytest.raises(OptionsError, match="rate"):
        AcmeAugmentationOptions(rate=1.5)
