"""What this head does; the rules that all heads keep are in test_conformance.py."""

import pytest
import torch
from mlclf_acme.head import AcmeHead, AcmeHeadOptions

from mlclf import MultiLabelClassifier, TrainingOptions
from mlclf.exceptions import OptionsError
from mlclf.plugins import register_backbone
from mlclf.testing import TinyBackbone, TinyOptions, tiny_labels, tiny_texts


def test_it_learns_which_words_belong_to_which_label() -> None:
    register_backbone(TinyBackbone, "local:tiny")
    texts = tiny_texts(400)
    clf = MultiLabelClassifier(
        TinyOptions(hidden=32),
        strategy="full",
        head=AcmeHeadOptions(dropout=0.0),
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


def test_a_share_of_all_features_cannot_be_dropped() -> None:
    with pytest.raises(OptionsError, match="dropout"):
        AcmeHeadOptions(dropout=1.0)


def test_it_is_a_module_of_torch() -> None:
    assert isinstance(AcmeHead(AcmeHeadOptions()), torch.nn.Module)
