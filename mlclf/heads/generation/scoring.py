"""Scores of all labels at one step of an answer, by one pass over the label trie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from mlclf.heads.generation.reading import Reading
from mlclf.heads.generation.trie import LabelTrie

# Tokens of the trie in one pass: mask and attention are linear in the number of labels above it.
_CHUNK = 512


class Scorer(nn.Module, ABC):
    """Scores labels as the next part of an answer."""

    @abstractmethod
    def forward(self, reading: Reading, left: Tensor) -> Tensor:
        """Return log-probabilities of each label, and of the end behind them, ``(n_rows, n_labels + 1)``.

        Parameters
        ----------
        reading : Reading
            Up to where a name may begin.
        left : Tensor of bool, shape (n_rows, n_labels)
            Labels that have not been written.
        """


class _Chunk(nn.Module):
    """Some of the trie's subtrees: nodes as tokens of a packed pass, and the edges that leave them."""

    ids: Tensor
    depths: Tensor
    tree: Tensor
    edges: Tensor
    edge_row: Tensor
    edge_column: Tensor
    tokens: Tensor

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)


class PackedScorer(Scorer):
    """Scores every label: all names are branches of one packed pass behind the text.

    Each branch sees the text, what has been written, and itself. So all scores equal those of reading one name at a
    time.

    Parameters
    ----------
    trie : LabelTrie
    chunk : int
        Tokens of a pass, unless one subtree has more.
    """

    def __init__(self, trie: LabelTrie, chunk: int = _CHUNK) -> None:
        super().__init__()
        self.trie = trie
        self.chunks = nn.ModuleList([_make_chunk(trie, nodes) for nodes in _subtrees(trie, chunk)])
        self.n_at_root = int(trie.edges_of[1])

    def forward(self, reading: Reading, left: Tensor) -> Tensor:
        """Return log-probabilities; see :class:`Scorer`."""
        trie = self.trie
        logits = torch.zeros(len(left), len(trie.edge_from), device=left.device)
        at_root = reading.logits(reading.last, trie.tokens)
        logits[:, : self.n_at_root] = at_root[:, trie.edge_token[: self.n_at_root]]
        for chunk in cast("Iterable[_Chunk]", self.chunks):
            states = reading.peek(chunk.ids.expand(len(left), -1), chunk.depths, chunk.tree)
            found = reading.logits(states.flatten(0, 1), chunk.tokens).view(*states.shape[:2], -1)
            logits[:, chunk.edges] = found[:, chunk.edge_row, chunk.edge_column]
        return label_log_probabilities(trie, logits, at_root[:, trie.end_token], left)


def label_log_probabilities(trie: LabelTrie, logits: Tensor, end: Tensor, left: Tensor) -> Tensor:
    """Normalise logits among what is allowed at each node, and add them up along each label's path.

    Parameters
    ----------
    trie : LabelTrie
    logits : Tensor, shape (n, n_edges)
    end : Tensor, shape (n,)
        Logit of the end, which is allowed at the root.
    left : Tensor of bool, shape (n, n_labels)

    Returns
    -------
    Tensor, shape (n, n_labels + 1)
    """
    closed = ~trie.open_edges(left)
    logits = logits.masked_fill(closed, -torch.inf)
    largest = logits.new_full((len(logits), trie.n_nodes), -torch.inf)
    largest[:, 0] = end
    largest.scatter_reduce_(1, trie.edge_from.expand_as(logits), logits, reduce="amax")
    largest = largest.masked_fill(largest.isinf(), 0)
    sums = torch.zeros_like(largest)
    sums[:, 0] = (end - largest[:, 0]).exp()
    sums.index_add_(1, trie.edge_from, (logits - largest[:, trie.edge_from]).exp())
    total = largest + sums.log()
    steps = (logits - total[:, trie.edge_from]).masked_fill(closed, -torch.inf)
    labels = logits.new_zeros(len(logits), trie.n_labels).index_add_(1, trie.path_label, steps[:, trie.path_edge])
    return torch.cat([labels, (end - total[:, 0])[:, None]], dim=1)


def _subtrees(trie: LabelTrie, chunk: int) -> list[list[int]]:
    """Divide the nodes below the root into groups of whole subtrees."""
    parents = trie.node_parent.tolist()
    top: dict[int, int] = {}
    subtrees: dict[int, list[int]] = {}
    for node in range(1, trie.n_nodes):
        top[node] = node if parents[node] == 0 else top[parents[node]]
        subtrees.setdefault(top[node], []).append(node)
    groups: list[list[int]] = []
    for nodes in subtrees.values():
        if groups and len(groups[-1]) + len(nodes) <= chunk:
            groups[-1] += nodes
        else:
            groups.append(list(nodes))
    return groups


def _make_chunk(trie: LabelTrie, nodes: list[int]) -> _Chunk:
    nodes = sorted(nodes)
    row = {node: place for place, node in enumerate(nodes)}
    parents = trie.node_parent.tolist()
    tree = torch.eye(len(nodes), dtype=torch.bool)
    for node in nodes:
        if parents[node]:
            tree[row[node]] |= tree[row[parents[node]]]
    chosen = torch.tensor(nodes)
    edges = torch.isin(trie.edge_from, chosen).nonzero()[:, 0]
    used, column = torch.unique(trie.edge_token[edges], return_inverse=True)
    return _Chunk(
        ids=trie.node_token[chosen],
        depths=trie.node_depth[chosen],
        tree=tree,
        edges=edges,
        edge_row=torch.tensor([row[node] for node in trie.edge_from[edges].tolist()]),
        edge_column=column,
        tokens=trie.tokens[used],
    )
