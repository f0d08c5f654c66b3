"""Attention of every label over the tokens, a block of labels at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# A processor's matrix product rounds a column differently with the number of columns beside it, unless that is a
# multiple of this: labels that are added later then leave the answers for others as they are.
_COLUMNS = 16

# Cells of one (n_rows, length, n_labels) table at a time: 32 MiB of float32.
MOST_CELLS = 1 << 23


def read_labels(keys: Tensor, states: Tensor, mask: Tensor, queries: Tensor, weights: Tensor) -> Tensor:
    """Return what each label gives to the states that it attends to.

    Label ``l`` attends to token ``t`` with a weight that is softmax over t of ``keys[t] @ queries[l]``, averages the
    states by it, and multiplies the average with ``weights[l]``. The product is taken first, token by token, which is
    the same sum: no average of hidden size is ever held for each label, and memory grows with labels times tokens. Of
    more labels than fit into a table of 8 million cells, blocks are read one after the other, and in training a block
    is computed again in the backward pass instead of being kept.

    Parameters
    ----------
    keys : Tensor of float32, shape (n_rows, length, width)
        What attention looks at.
    states : Tensor of float32, shape (n_rows, length, hidden)
        What is averaged.
    mask : Tensor of bool, shape (n_rows, length)
        True where there is a token.
    queries : Tensor of float32, shape (n_labels, width)
    weights : Tensor of float32, shape (n_labels, hidden)

    Returns
    -------
    Tensor of float32, shape (n_rows, n_labels)

    Examples
    --------
    >>> states = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> read_labels(states, states, mask, queries=torch.zeros(1, 1), weights=torch.ones(1, 1)).tolist()
    [[2.0]]
    """
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return _read(keys, states, mask, queries, weights)
    blocks = list(_blocks(len(queries), keys.shape[0] * keys.shape[1]))
    if len(blocks) == 1:
        return _read(keys, states, mask, _filled(queries), _filled(weights))[:, : len(queries)]
    return torch.cat([_read_block(keys, states, mask, queries[block], weights[block]) for block in blocks], dim=1)


def attention(keys: Tensor, mask: Tensor, queries: Tensor) -> Tensor:
    """Return how much each label attends to each token, shape (n_rows, length, n_labels); each label's sum is 1."""
    scores = F.linear(keys, queries)
    return scores.masked_fill(~mask.unsqueeze(-1), torch.finfo(scores.dtype).min).softmax(dim=1)


def _read(keys: Tensor, states: Tensor, mask: Tensor, queries: Tensor, weights: Tensor) -> Tensor:
    return (attention(keys, mask, queries) * F.linear(states, weights)).sum(dim=1)


def _read_block(keys: Tensor, states: Tensor, mask: Tensor, queries: Tensor, weights: Tensor) -> Tensor:
    """Read the labels of one block; in training nothing of the block but its logits is kept."""
    inputs = (keys, states, mask, _filled(queries), _filled(weights))
    if torch.is_grad_enabled():
        read: Tensor = checkpoint(_read, *inputs, use_reentrant=False, preserve_rng_state=False)
    else:
        read = _read(*inputs)
    return read[:, : len(queries)]


def _filled(rows: Tensor) -> Tensor:
    """Append rows of zeros up to a multiple of 16 rows."""
    return F.pad(rows, (0, 0, 0, -len(rows) % _COLUMNS))


def _blocks(n_labels: int, n_tokens: int) -> Iterator[slice]:
    """Yield ranges of labels whose tables hold at most ``MOST_CELLS`` cells, or 16 labels."""
    size = max(MOST_CELLS // max(1, n_tokens) // _COLUMNS, 1) * _COLUMNS
    for start in range(0, n_labels, size):
        yield slice(start, min(start + size, n_labels))
