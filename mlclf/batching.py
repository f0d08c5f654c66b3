"""Which samples go into a batch together, and the data set that batches are taken from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.encoding import EncodedTexts
from mlclf.interfaces import Backbone, Batch, Head
from mlclf.labels import Targets

Rows = NDArray[np.int64]

# Batches whose rows are sorted by length together. Large pools pad less, small ones shuffle better: with 50 the
# padding of GoEmotions is 2 % and a pool is still only 1,600 of 43,410 rows.
_POOL_BATCHES = 50


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded texts with their targets, from which batches are made.

    Parameters
    ----------
    backbone, head : Backbone, Head
        Make the batches.
    encoded : EncodedTexts
        All samples.
    targets : Targets or None
        None at prediction.
    """

    backbone: Backbone
    head: Head
    encoded: EncodedTexts
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample, shape (n_samples,)."""
        return self.encoded.sample_lengths

    def batch(self, rows: Rows) -> Batch:
        """Make the batch of some samples."""
        return self.head.collate(self.backbone, self.encoded, rows, self.targets)


def shuffled_batches(lengths: NDArray[np.int64], batch_size: int, generator: np.random.Generator) -> list[Rows]:
    """Split all samples into batches of similar length, in random order.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_samples,)
        Tokens of each sample.
    batch_size : int
        Samples in a batch; the last one may be smaller.
    generator : numpy.random.Generator
        Source of the order.

    Returns
    -------
    list of ndarray of int64
        Every sample exactly once.

    Examples
    --------
    >>> import numpy as np
    >>> batches = shuffled_batches(np.array([5, 1, 5, 1]), 2, np.random.default_rng(0))
    >>> sorted(sorted(batch.tolist()) for batch in batches)
    [[0, 2], [1, 3]]
    """
    order = generator.permutation(len(lengths))
    batches: list[Rows] = []
    pool = batch_size * _POOL_BATCHES
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(lengths: NDArray[np.int64], batch_size: int, max_tokens: int) -> list[Rows]:
    """Split all samples into batches by length, longest first, bounded in samples and in tokens.

    Longest first, so that a batch too large for memory shows at once.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_samples,)
        Tokens of each sample.
    batch_size : int
        Most samples in a batch.
    max_tokens : int
        Most tokens in a batch, padding included; a single longer sample is a batch of its own.

    Returns
    -------
    list of ndarray of int64
        Every sample exactly once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[Rows] = []
    start = 0
    while start < len(order):
        fitting = max(1, max_tokens // max(1, int(lengths[order[start]])))
        stop = start + min(batch_size, fitting)
        batches.append(order[start:stop])
        start = stop
    return batches
