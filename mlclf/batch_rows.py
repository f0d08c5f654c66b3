"""Which rows go into a batch together: rows of similar length, so that there is little padding; free of torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# Batches whose rows are sorted by length together. Large pools pad less, small ones shuffle better: with 200 the
# padding of GoEmotions (43,410 rows) is 2 %, with 50 it was 4 %, and so many rows have the same length that batches
# still vary.
_POOL_BATCHES = 200


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
