"""What this backbone does; the rules that all backbones keep are in test_conformance.py."""

import numpy as np
from mlclf_acme.backbone import AcmeBackbone, AcmeBackboneOptions

from mlclf import MultiLabelClassifier, TrainingOptions
from mlclf.interfaces import LoadRequest
from mlclf.testing import tiny_labels, tiny_texts


def test_every_byte_is_a_token_in_all_scripts() -> None:
    backbone = AcmeBackbone(AcmeBackboneOptions())
    backbone.load(LoadRequest())
    texts = ["cat", "猫"]
    lengths = backbone.encode(texts).sample_lengths
    np.testing.assert_array_equal(lengths, [1 + len(text.encode()) for text in texts])


def test_it_learns_which_words_belong_to_which_label() -> None:
    texts = tiny_texts(400)
    clf = MultiLabelClassifier(
        AcmeBackboneOptions(),
        strategy="full",
        training=TrainingOptions(
            epochs=20, batch_size=16, learning_rate=0.01, head_learning_rate=0.01, precision="fp32"
        ),
        device="cpu",
        random_state=0,
        verbose=0,
    )
    clf.fit(texts, tiny_labels(texts))
    unseen = tiny_texts(100, seed=1)
    assert clf.evaluate(unseen, tiny_labels(unseen)).micro_f1 > 0.8
