"""Tasks over one tiny backbone."""

from __future__ import annotations

from typing import Any

from toy import toy_rows

from mlclf import (
    LoraOptions,
    MultiTaskClassifier,
    TrainingOptions,
)
from mlclf.testing import tiny_texts

TEXTS, TOPICS = toy_rows(48)
LENGTHS = [["long"] if len(text.split()) > 7 else ["short"] for text in TEXTS]
ENDS = [[text.split()[-1][0]] for text in TEXTS]
# The last is longer than one window.
NEW = [*tiny_texts(7, seed=5), " ".join(tiny_texts(12, seed=6))]
FAST = TrainingOptions(epochs=1, batch_size=16, precision="fp32", learning_rate=2e-2)
UPPER = LoraOptions(r=2, layers=1, targets="attention")


def make(backbone: Any) -> MultiTaskClassifier:
    return MultiTaskClassifier(
        backbone, training=FAST, validation=None, thresholds=0.3, device="cpu", random_state=0, verbose=0
    )


def filled(backbone: Any) -> MultiTaskClassifier:
    """Four tasks: two ranks, DoRA on some layers, and one that changes nothing."""
    mt = make(backbone)
    mt.add_task("topics", TEXTS, TOPICS, strategy=LoraOptions(r=4))
    mt.add_task("length", TEXTS, LENGTHS, strategy=LoraOptions(r=2, use_dora=True, targets="attention"), pooling="max")
    mt.add_task("ends", TEXTS, ENDS, strategy=UPPER, training=FAST.replace(epochs=2))
    return mt.add_task("again", TEXTS, TOPICS, strategy="head-only")


def probabilities(mt: MultiTaskClassifier) -> dict[str, Any]:
    return {name: mt.predict_proba(NEW, task=name) for name in mt.tasks}


def storages(mt: MultiTaskClassifier, suffix: str) -> set[int]:
    """Where the weights of that name lie, over all tasks."""
    return {
        parameter.data_ptr()
        for model in mt._models.values()
        for name, parameter in model.network.backbone.model.named_parameters()
        if name.endswith(suffix)
    }
