"""Backbone ``static:file``: static token embeddings from a local folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mlclf.interfaces import BackboneOutput, BackboneSource, Batch, LoadRequest
from mlclf_static.base import TOKENIZER, TableBackbone, TableOptions
from mlclf_static.folder import CONFIG, WEIGHTS, StaticShape, left_out_ids, read_shape, read_table, read_tokenizer
from mlclf_static.pooling import MeanPooling


class StaticOptions(TableOptions):
    """Options of the backbone ``static:file``.

    Parameters
    ----------
    model : str
        Local folder with ``model.safetensors``, ``tokenizer.json`` and, where there is one, ``config.json``.
    max_length : int
        Tokens read at once.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many tokens.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.

    Examples
    --------
    >>> StaticOptions(model="potion-base-8M").component
    'static:file'
    """

    component = "static:file"
    model: str = Field(default="static-model", min_length=1)


class StaticEmbedding(nn.Module):
    """A table of vectors; tokens may share a vector and have a weight each.

    Parameters
    ----------
    shape : StaticShape
    """

    mapping: Tensor | None
    weights: Tensor | None

    def __init__(self, shape: StaticShape) -> None:
        super().__init__()
        self.table = nn.Embedding(shape.n_vectors, shape.hidden)
        self.register_buffer("mapping", torch.zeros(shape.n_tokens, dtype=torch.int64) if shape.mapped else None)
        self.register_buffer("weights", torch.ones(shape.n_tokens) if shape.weighted else None)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the state of each token, shape (n_rows, length, hidden)."""
        states: Tensor = self.table(ids if self.mapping is None else self.mapping[ids])
        return states if self.weights is None else states * self.weights[ids].unsqueeze(-1)


class StaticBackbone(TableBackbone):
    """Static embeddings as model2vec distils them from a sentence encoder: a text is the mean of its tokens' vectors.

    Unknown tokens are left out. Nothing is fetched from a network, and nothing but tensors and JSON is read.

    Parameters
    ----------
    options : StaticOptions

    References
    ----------
    Tulkens and van Dongen (2024), "Model2Vec: Fast State-of-the-Art Static Embeddings", doi:10.5281/zenodo.17270888.

    Examples
    --------
    >>> StaticBackbone(StaticOptions(model="potion-base-8M")).family
    'other'
    """

    Options = StaticOptions
    # Of pretrained vectors: 1e-3 with strategy "full".
    learning_rate_scale = 20.0
    options: StaticOptions

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Read vectors and tokenizer.

        Raises
        ------
        BackboneLoadError
            If a file is absent, or tokenizer and vectors do not fit each other.
        """
        self.check_request(request)
        files = Path(self.options.model) if folder is None else folder
        tokenizer = read_tokenizer(files)
        self.shape = read_shape(files, tokenizer.get_vocab_size())
        self._sha256 = {}
        self.model = StaticEmbedding(self.shape)
        if request.weights:
            self.model.load_state_dict(read_table(files))
            self._sha256 = {WEIGHTS: _sha256(files / WEIGHTS)}
        left_out = left_out_ids(tokenizer)
        self.set_tokenizer(
            tokenizer,
            pad_id=left_out[0],
            max_length=self.options.max_length,
            window_stride=self.options.window_stride,
        )
        self.left_out = left_out
        self.hidden_size = self.shape.hidden
        self.pooling = MeanPooling(self.shape.normalize)

    def forward(self, batch: Batch) -> BackboneOutput:
        """Read a batch; unknown tokens count as padding does."""
        tokens, mask = self.token_states(batch), batch.attention_mask.bool()
        for number in self.left_out:
            mask = mask & (batch.input_ids != number)
        return BackboneOutput(tokens=tokens, mask=mask, pooled=self.pooling(tokens, mask))

    def source(self) -> BackboneSource:
        """Say where the vectors come from."""
        return BackboneSource(kind="folder", name=self.options.model, sha256=self._sha256)

    def count_weights(self) -> int:
        """Return the number of weights of the table."""
        files = Path(self.options.model)
        shape = read_shape(files, read_tokenizer(files).get_vocab_size())
        return shape.n_vectors * shape.hidden

    def save_files(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and the table's shape."""
        self.encoder.tokenizer.save(str(folder / TOKENIZER))
        content: dict[str, Any] = {"normalize": self.shape.normalize, "shape": self.shape.to_dict()}
        (folder / CONFIG).write_text(json.dumps(content), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
