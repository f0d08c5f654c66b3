"""A backbone without a transformer: one vector a token, for tests that need a model within a millisecond."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mlclf.backbones.pooling import make_pooling
from mlclf.interfaces import Backbone, BackboneSource, Batch, LoadRequest
from mlclf.interfaces.backbone import Family
from mlclf.options import Options
from mlclf.testing.fakes import tiny_tokenizer


class TinyOptions(Options):
    """Options of :class:`TinyBackbone`.

    Parameters
    ----------
    hidden : int
        Size of a token state.
    max_length : int
        Tokens read at once, special tokens included.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many tokens.
    pooling : {"mean", "cls", "max", "attention"}
        How the states of a row's tokens become one vector.

    Examples
    --------
    >>> TinyOptions(hidden=16).component
    'local:tiny'
    """

    component: ClassVar[str] = "local:tiny"

    hidden: int = Field(default=8, ge=1)
    max_length: int = Field(default=64, ge=3)
    window_stride: int | None = Field(default=None, ge=0)
    pooling: Literal["mean", "cls", "max", "attention"] = "mean"


class TinyBackbone(Backbone):
    """A table of one learned vector a token; it is of no family, and has no layers and no pretrained weights.

    It reads what :func:`mlclf.testing.tiny_tokenizer` makes of a text. Register it where it is to be used by name.

    Parameters
    ----------
    options : TinyOptions

    Examples
    --------
    >>> from mlclf import MultiLabelClassifier
    >>> from mlclf.plugins import register_backbone
    >>> from mlclf.testing import TinyBackbone, TinyOptions, tiny_labels, tiny_texts
    >>> register_backbone(TinyBackbone, "local:tiny")
    >>> clf = MultiLabelClassifier(TinyOptions(hidden=16), strategy="full", random_state=0, verbose=0)
    >>> texts = tiny_texts(100)
    >>> clf.fit(texts, tiny_labels(texts)).predict_proba(["the cat"]).shape
    (1, 4)
    """

    Options: ClassVar[type[Options]] = TinyOptions
    family: ClassVar[Family] = "other"
    options: TinyOptions

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Make the table, at random."""
        options = self.options
        tokenizer = tiny_tokenizer()
        self.set_tokenizer(tokenizer, pad_id=0, max_length=options.max_length, window_stride=options.window_stride)
        self.hidden_size = options.hidden
        self.model = nn.Embedding(tokenizer.get_vocab_size(), options.hidden)
        self.pooling = make_pooling(options.pooling, options.hidden)

    def token_states(self, batch: Batch) -> Tensor:
        """Look the vectors up, ``(n_rows, length, hidden)``."""
        states: Tensor = self.model(batch.input_ids)
        return torch.tanh(states)

    def source(self) -> BackboneSource:
        """Say that there are no pretrained weights."""
        return BackboneSource(kind="none", name="tiny")
