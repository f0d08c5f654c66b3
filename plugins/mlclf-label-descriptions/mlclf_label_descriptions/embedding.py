"""Vectors of texts by the backbone that reads the texts to be classified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from mlclf.interfaces import Backbone

# Texts at a time; descriptions are short.
_BATCH = 64


def embed(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Return the pooled vector of each text, as the backbone is: with its dropout, and with gradients.

    Parameters
    ----------
    backbone : Backbone
        Loaded.
    texts : sequence of str, length n_texts

    Returns
    -------
    Tensor of float32, shape (n_texts, hidden)
        Of a text of several windows, their mean.
    """
    device = next(backbone.model.parameters()).device
    encoded = backbone.encode(texts)
    parts = []
    for start in range(0, len(texts), _BATCH):
        batch = backbone.collate(encoded, np.arange(start, min(start + _BATCH, len(texts)))).to(device)
        pooled = backbone(batch).pooled.float()
        if batch.row_samples is not None:
            sums = pooled.new_zeros(batch.n_samples, pooled.shape[1]).index_add(0, batch.row_samples, pooled)
            pooled = sums / batch.row_samples.bincount(minlength=batch.n_samples).unsqueeze(1)
        parts.append(pooled)
    return torch.cat(parts)


@torch.no_grad()
def embed_constant(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Return the same without dropout and gradients; the backbone's mode stays as it is."""
    with _evaluating(backbone):
        return embed(backbone, texts)


@contextmanager
def _evaluating(backbone: Backbone) -> Iterator[None]:
    """Switch dropout off, in modules that are training while others are not, too."""
    training = [module for module in backbone.modules() if module.training]
    backbone.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
