"""Outputs of constant lower layers, computed once instead of in every epoch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlclf.batching import EncodedDataset, Rows, sorted_batches
from mlclf.interfaces import Batch, Head
from mlclf.training.device import Precision, autocast

logger = logging.getLogger(__name__)

_BATCH_SIZE, _BATCH_TOKENS = 256, 16_384


@dataclass(frozen=True)
class TokenStateDataset(EncodedDataset):
    """A data set whose batches start at ``first_layer`` from stored token states.

    Parameters
    ----------
    states : Tensor, shape (n_tokens, hidden)
        State of each token of ``encoded.ids`` after layer ``first_layer - 1``.
    first_layer : int
        First layer left to run.
    """

    states: Tensor = None  # type: ignore[assignment]  # the parent's last field has a default
    first_layer: int = 0

    def batch(self, rows: Rows) -> Batch:
        """Make a batch that carries the stored states of its tokens."""
        batch = super().batch(rows)
        windows, _ = self.encoded.windows_of(rows)
        mask = batch.attention_mask.bool()
        states = self.states.new_zeros(*mask.shape, self.states.shape[1])
        states[mask] = self.states[torch.from_numpy(self.encoded.tokens_of(windows))]
        return replace(batch, states=states, first_layer=self.first_layer)


@dataclass(frozen=True)
class PooledStateDataset(EncodedDataset):
    """A data set whose batches hold one stored vector a window, where nothing below the head learns.

    The vector stands as a text of one token: every pooling without parameters returns it unchanged.

    Parameters
    ----------
    states : Tensor, shape (n_windows, hidden)
        Pooled vector of each window.
    first_layer : int
        The number of layers: none is left to run.
    """

    states: Tensor = None  # type: ignore[assignment]  # the parent's last field has a default
    first_layer: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Vectors of each sample, shape (n_samples,)."""
        return self.encoded.windows_per_sample

    def batch(self, rows: Rows) -> Batch:
        """Make a batch of stored vectors."""
        batch = super().batch(rows)
        windows, _ = self.encoded.windows_of(rows)
        return replace(
            batch,
            input_ids=batch.input_ids[:, :1],
            attention_mask=torch.ones_like(batch.attention_mask[:, :1]),
            states=self.states[torch.from_numpy(windows)][:, None],
            first_layer=self.first_layer,
        )


def cached(
    dataset: EncodedDataset, n_layers: int, memory: float, device: torch.device, precision: Precision
) -> EncodedDataset:
    """Compute the outputs of the lowest layers once, where they fit into memory.

    Parameters
    ----------
    dataset : EncodedDataset
        Texts whose states are wanted.
    n_layers : int
        Layers that stay constant.
    memory : float
        GiB that the states may take.
    device : torch.device
        Where the layers are computed; the states are kept in main memory.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic, and type of what is stored.

    Returns
    -------
    EncodedDataset
        One that carries states, or ``dataset`` itself where they would take too much memory.
    """
    backbone = dataset.backbone
    pooled = n_layers == backbone.n_layers and _pooled_is_constant(dataset)
    count = dataset.encoded.n_windows if pooled else len(dataset.encoded.ids)
    size = count * backbone.hidden_size * (4 if pooled or precision == "fp32" else 2) / 2**30
    if size > memory:
        logger.warning(
            "The outputs of %d constant layers would take %.1f GiB and TrainingOptions(cache_memory=%.1f) allows less: "
            "they are computed anew in every epoch.",
            n_layers, size, memory,
        )  # fmt: skip
        return dataset
    states = _compute(dataset, n_layers, count, pooled=pooled, device=device, precision=precision)
    kind = PooledStateDataset if pooled else TokenStateDataset
    return kind(backbone, dataset.head, dataset.encoded, dataset.targets, states=states, first_layer=n_layers)


def can_cache(head: Head) -> bool:
    """Tell whether a head reads the tokens of the texts alone, so that outputs of constant layers say all of them."""
    return not (head.capabilities.masks or head.capabilities.memory)


def _pooled_is_constant(dataset: EncodedDataset) -> bool:
    """Tell whether nothing between the last layer and the head's input learns."""
    return dataset.head.capabilities.reads == "pooled" and not list(dataset.backbone.pooling.parameters())


@torch.no_grad()
def _compute(
    dataset: EncodedDataset, n_layers: int, count: int, *, pooled: bool, device: torch.device, precision: Precision
) -> Tensor:
    """Run the lowest layers over all texts, by length."""
    backbone = dataset.backbone
    backbone.model.eval()
    out: Tensor | None = None
    for rows in sorted_batches(dataset.lengths, _BATCH_SIZE, _BATCH_TOKENS):
        batch = replace(dataset.batch(rows), targets=None, known=None).to(device)
        windows, _ = dataset.encoded.windows_of(rows)
        with autocast(device, precision):
            states = backbone.lower_states(batch, n_layers)
            mask = batch.attention_mask.bool()
            states = backbone.pooling(states, mask).float() if pooled else states[mask]
        where = windows if pooled else dataset.encoded.tokens_of(windows)
        if out is None:
            out = torch.empty(count, states.shape[-1], dtype=states.dtype)
        out[torch.from_numpy(where)] = states.cpu()
    assert out is not None
    return out
