"""Heads that read labels learn from a few real comments: slow, and only where GoEmotions is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlclf import MultiLabelClassifier, TrainingOptions
from mlclf.datasets import load_jsonl

# The data are not ours to ship: a folder with train.jsonl.gz and test.jsonl.gz.
FOLDER = Path(os.environ.get("MLCLF_GOEMOTIONS", Path(__file__).parents[2] / "shared" / "data" / "goemotions"))


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "train.jsonl.gz").is_file(), reason=f"no GoEmotions in {FOLDER}")
@pytest.mark.parametrize("head", ["bce", "label-query"])
def test_a_head_learns_from_500_real_comments(head: str) -> None:
    train, test = (load_jsonl(FOLDER / f"{split}.jsonl.gz") for split in ("train", "test"))
    classes = sorted({label for labels in train.labels for label in labels})
    clf = MultiLabelClassifier(
        "minilm:l6", "lora", head, training=TrainingOptions(epochs=2), classes=classes, random_state=0, verbose=0
    ).set_params(backbone__max_length=64)
    clf.fit(train.texts[:500], train.labels[:500])
    report = clf.evaluate(test.texts[:300], test.labels[:300])
    chance = sum(len(labels) for labels in test.labels[:300]) / (300 * len(classes))
    assert report.ranking.mean_average_precision > 2 * chance
