"""The label trie: all answers that are possible, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Growing:
    """Lists that become the arrays of a trie."""

    node_token: list[int]
    node_depth: list[int]
    node_parent: list[int]
    edges: list[tuple[int, int, int, int, int, int]]


class LabelTrie(nn.Module):
    """All labels' paths as one tree, in buffers that move with the head and are not saved.

    Node 0 is the root; a path's last token leads back to it. Labels stand in the order of their paths ("ranks"), so
    that those below a node are a range, and "is one of them left" is a difference of two sums.

    Parameters
    ----------
    paths : sequence of tuple of int, length n_labels
        Token ids of each label, none the beginning of another.
    end : int
        Id that ends an answer; allowed at the root only.

    Attributes
    ----------
    tokens : Tensor of int64, shape (n_tokens,)
        All ids that can occur in an answer: the part of the vocabulary whose logits are needed.
    end_token : int
        Place of ``end`` among them.
    node_token, node_depth, node_parent : Tensor of int64, shape (n_nodes,)
        Id that leads to a node, number of ids on the way, and the node before it.
    edge_from, edge_token, edge_to, edge_label : Tensor of int64, shape (n_edges,)
        In the order of ``edge_from``: the node, the place of the token in ``tokens``, the node or -1 where the token
        closes a name, and that label or -1.
    edge_first, edge_last : Tensor of int64, shape (n_edges,)
        Range of the ranks below an edge.
    edges_of : Tensor of int64, shape (n_nodes + 1,)
        Where each node's edges begin.
    rank : Tensor of int64, shape (n_labels,)
    path_tokens, path_lengths : Tensor of int64, shape (n_labels, longest) and (n_labels,)
        The paths, filled up with zeros.
    path_label, path_edge : Tensor of int64, shape (n_path_tokens,)
        Each token of each label's path as label and edge.

    Examples
    --------
    >>> trie = LabelTrie([(5, 9), (5, 6, 9)], end=2)
    >>> trie.tokens.tolist(), trie.node_token.tolist(), trie.edge_label.tolist()
    ([2, 5, 6, 9], [-1, 5, 6], [-1, -1, 0, 1])
    """

    end_token: int
    tokens: Tensor
    node_token: Tensor
    node_depth: Tensor
    node_parent: Tensor
    edge_from: Tensor
    edge_token: Tensor
    edge_first: Tensor
    edge_last: Tensor
    edge_to: Tensor
    edge_label: Tensor
    edges_of: Tensor
    rank: Tensor
    path_tokens: Tensor
    path_lengths: Tensor
    path_label: Tensor
    path_edge: Tensor

    def __init__(self, paths: Sequence[tuple[int, ...]], end: int) -> None:
        super().__init__()
        self.paths, self.end = tuple(paths), end
        self.n_labels = len(self.paths)
        order = sorted(range(self.n_labels), key=lambda label: self.paths[label])
        tokens = sorted({end, *(token for path in self.paths for token in path)})
        self.end_token = tokens.index(end)
        growing = _Growing([-1], [0], [-1], [])
        self._grow(growing, order, {token: place for place, token in enumerate(tokens)})
        edges = np.array(sorted(growing.edges), dtype=np.int64)
        for name, column in zip(
            ("edge_from", "edge_first", "edge_token", "edge_last", "edge_to", "edge_label"), edges.T, strict=True
        ):
            self._keep(name, column)
        self._keep("tokens", tokens)
        self._keep("node_token", growing.node_token)
        self._keep("node_depth", growing.node_depth)
        self._keep("node_parent", growing.node_parent)
        n_nodes = len(growing.node_token)
        self._keep("edges_of", np.searchsorted(edges[:, 0], np.arange(n_nodes + 1)))
        self._keep("rank", np.argsort(np.array(order)))
        lengths = [len(path) for path in self.paths]
        self._keep("path_lengths", lengths)
        self._keep("path_tokens", [[*path, *[0] * (max(lengths) - len(path))] for path in self.paths])
        self._keep_paths(edges)

    def _keep(self, name: str, values: Any) -> None:
        self.register_buffer(name, torch.as_tensor(np.asarray(values, dtype=np.int64)), persistent=False)

    def _grow(self, growing: _Growing, order: list[int], place: dict[int, int]) -> None:
        """Visit the tree from the root, so that a node has a higher number than the one before it."""
        waiting = [(0, 0, 0, self.n_labels)]
        while waiting:
            node, depth, first, last = waiting.pop()
            groups = []
            while first < last:
                token = self.paths[order[first]][depth]
                stop = first
                while stop < last and self.paths[order[stop]][depth] == token:
                    stop += 1
                groups.append((token, first, stop))
                first = stop
            for token, start, stop in groups:
                closes = len(self.paths[order[start]]) == depth + 1
                to = -1 if closes else len(growing.node_token)
                growing.edges.append((node, start, place[token], stop, to, order[start] if closes else -1))
                if not closes:
                    growing.node_token.append(token)
                    growing.node_depth.append(depth + 1)
                    growing.node_parent.append(node)
                    waiting.append((to, depth + 1, start, stop))

    def _keep_paths(self, edges: Ints) -> None:
        """Keep the edges on the path of each label."""
        into = {int(edge[4]): number for number, edge in enumerate(edges) if edge[4] >= 0}
        parents = self.node_parent.tolist()
        found: list[tuple[int, int]] = []
        for number, edge in enumerate(edges):
            if edge[5] < 0:
                continue
            node = int(edge[0])
            found.append((int(edge[5]), number))
            while node:
                found.append((int(edge[5]), into[node]))
                node = parents[node]
        labels, numbers = np.array(sorted(found), dtype=np.int64).T
        self._keep("path_label", labels)
        self._keep("path_edge", numbers)

    @property
    def n_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self.node_token)

    def open_edges(self, left: Tensor) -> Tensor:
        """Say below which edges a label is left.

        Parameters
        ----------
        left : Tensor of bool, shape (n, n_labels)
            Labels that have not been written.

        Returns
        -------
        Tensor of bool, shape (n, n_edges)
        """
        by_rank = torch.zeros(len(left), self.n_labels + 1, dtype=torch.int64, device=left.device)
        by_rank[:, 1 + self.rank] = left.long()
        counts = by_rank.cumsum(dim=1)
        return counts[:, self.edge_last] > counts[:, self.edge_first]
