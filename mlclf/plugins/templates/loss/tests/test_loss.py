"""What this loss does; the rules that all losses keep are in test_conformance.py."""

import pytest
import torch
from mlclf_acme.loss import AcmeLoss, AcmeLossOptions

from mlclf import BceOptions, MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import OptionsError
from mlclf.losses import BceLoss
from mlclf.plugins import register_backbone
from mlclf.testing import TinyBackbone, TinyOptions, tiny_labels, tiny_texts


def test_without_smoothing_it_is_binary_cross_entropy() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 1]])
    torch.testing.assert_close(AcmeLoss(AcmeLossOptions(smoothing=0))(logits, targets), BceLoss()(logits, targets))


def test_certainty_costs_more_than_a_confident_right_answer() -> None:
    confident, certain = AcmeLoss()(torch.tensor([[3.0], [30.0]]), torch.ones(2, 1)).tolist()
    assert certain > confident


def test_a_target_cannot_be_spread_altogether() -> None:
    with pytest.raises(OptionsError, match="smoothing"):
        AcmeLossOptions(smoothing=1.0)


def test_it_learns_which_words_belong_to_which_label() -> None:
    register_backbone(TinyBackbone, "local:tiny")
    texts = tiny_texts(400)
    clf = MultiLabelClassifier(
        TinyOptions(hidden=32),
        strategy="full",
        head=BceOptions(loss="acme:loss", dropout=0.0),
        training=TrainingOptions(
            epochs=20, batch_size=16, learning_rate=0.03, head_learning_rate=0.03, precision="fp32"
        ),
        device="cpu",
        random_state=0,
        verbose=0,
    )
    clf.fit(texts, tiny_labels(texts))
    unseen = tiny_texts(100, seed=1)
    assert clf.evaluate(unseen, tiny_labels(unseen)).micro_f1 > 0.8
