"""A toy task that a tiny random encoder can learn: each label has words of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
from mlclf.backbones.pooling import make_pooling
from mlclf.interfaces import Backbone, BackboneSource, Batch, LoadRequest
from mlclf.options import Options
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


class WordOptions(Options):
    """Options of :class:`WordBackbone`."""

    component = "local:words"


class WordBackbone(Backbone):
    """A backbone without pretrained weights that reads words such as f0v3; it keeps scikit-learn's checks fast."""

    Options = WordOptions

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Make a table of one vector a word."""
        words = ["[PAD]", "[UNK]", *(f"f{feature}v{value}" for feature in range(12) for value in range(-40, 41))]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.set_tokenizer(tokenizer, pad_id=0, max_length=64)
        self.hidden_size = 16
        self.model = torch.nn.Embedding(len(words), self.hidden_size)
        self.pooling = make_pooling("mean", self.hidden_size)

    def source(self) -> BackboneSource:
        """Say that there are no pretrained weights."""
        return BackboneSource(kind="none", name="words")

    def token_states(self, batch: Batch) -> torch.Tensor:
        """Look the vectors up."""
        states: torch.Tensor = self.model(batch.input_ids)
        return states
