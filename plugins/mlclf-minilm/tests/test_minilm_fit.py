"""A short training of the whole classifier on the real weights."""

from __future__ import annotations

import numpy as np
import pytest

from mlclf import MultiLabelClassifier
from mlclf.exceptions import MissingPluginError
from mlclf.options import TrainingOptions
from mlclf.plugins import PluginManager, use_manager

TEXTS = [
    "A cat sleeps on the sofa.",
    "The kitten is taking a nap on the couch.",
    "Shares of the bank fell after its quarterly report.",
    "The lender's stock dropped when it published its earnings.",
]


@pytest.mark.parametrize("strategy", ["features", "lora"])
def test_classifier_learns_saves_and_loads(strategy, tmp_path):
    labels = [["pets"], ["pets"], ["finance"], ["finance"]]
    clf = MultiLabelClassifier(
        backbone="minilm:l6",
        strategy=strategy,
        head="bce",
        training=TrainingOptions(epochs=8, batch_size=8, head_learning_rate=3e-2, precision="fp32"),
        validation=None,
        thresholds=0.5,
        random_state=0,
        verbose=0,
    )
    clf.fit(TEXTS * 4, labels * 4)
    unseen = ["My dog and my hamster are asleep.", "Investors sold the company's bonds."]
    assert clf.predict_labels(unseen) == [("pets",), ("finance",)]
    clf.save(tmp_path / "model")
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(unseen), clf.predict_proba(unseen), atol=1e-6)
    with (
        use_manager(PluginManager(entry_points=[])),
        pytest.raises(
            MissingPluginError, match=r'saved with mlclf-minilm 0\.1\.0.*pip install "mlclf-minilm>=0\.1\.0,<1"'
        ),
    ):
        MultiLabelClassifier.load(tmp_path / "model")
