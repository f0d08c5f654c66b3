"""A toy task that a tiny random encoder can learn: each label has words of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
from mlclf.testing import tiny_labels, tiny_texts

N_TRAIN, N_TEST = 96, 40


def toy_rows(n: int = N_TRAIN, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Return texts and label sets."""
    texts = tiny_texts(n, seed=seed)
    return texts, tiny_labels(texts)


def toy_classifier(folder: Path, strategy: Any = "full", *, epochs: int = 2, **changes: Any) -> MultiLabelClassifier:
    """Return a small, silent, seeded classifier in float32 over a tiny encoder."""
    settings: dict[str, Any] = {"random_state": 0, "verbose": 0, "device": "cpu", "validation": None}
    options = {"epochs": epochs, "batch_size": 16, "precision": "fp32", **changes.pop("training", {})}
    settings.update(changes)
    backbone = settings.pop("backbone", BertOptions(model=str(folder), max_length=32))
    return MultiLabelClassifier(backbone, strategy, training=TrainingOptions(**options), **settings)
