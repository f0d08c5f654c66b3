"""Answers for training: the tokens of a set of labels, and what else could have stood at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.heads.generation.trie import LabelTrie

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answer:
    """One answer.

    Parameters
    ----------
    ids : ndarray of int64, shape (n_tokens,)
        The labels' tokens, one label after the other, and the end.
    tokens : ndarray of int64, shape (n_tokens,)
        The same as places among the trie's tokens.
    allowed : ndarray of bool, shape (n_tokens, n_trie_tokens)
        What could have stood at each place.
    """

    ids: Ints
    tokens: Ints
    allowed: Bools


class AnswerWriter:
    """Writes answers.

    Parameters
    ----------
    trie : LabelTrie

    Examples
    --------
    >>> trie = LabelTrie([(5, 9), (5, 6, 9)], end=2)
    >>> answer = AnswerWriter(trie).write([1])
    >>> answer.ids.tolist(), answer.allowed.astype(int).tolist()
    ([5, 6, 9, 2], [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0]])
    """

    def __init__(self, trie: LabelTrie) -> None:
        self._paths, self._end, self._end_token, self._n_labels = trie.paths, trie.end, trie.end_token, trie.n_labels
        self._tokens = trie.tokens.numpy(force=True)
        self._first, self._last = trie.edge_first.numpy(force=True), trie.edge_last.numpy(force=True)
        self._edge_token, self._to = trie.edge_token.numpy(force=True), trie.edge_to.numpy(force=True)
        self._edges_of, self._rank = trie.edges_of.numpy(force=True), trie.rank.numpy(force=True)

    def length(self, labels: Sequence[int]) -> int:
        """Return how many tokens an answer has."""
        return 1 + sum(len(self._paths[label]) for label in labels)

    def write(self, labels: Sequence[int], unknown: Sequence[int] = ()) -> Answer:
        """Return the answer that names some labels in the order given.

        Labels of which nobody knows whether they apply count as ones that cannot be written: neither for nor against.
        """
        ids, nodes, counts = self._walk(labels, unknown)
        allowed = np.zeros((len(ids), len(self._tokens)), dtype=np.bool_)
        for place, (node, left) in enumerate(zip(nodes, counts, strict=True)):
            edges = slice(self._edges_of[node], self._edges_of[node + 1])
            is_open = left[self._last[edges]] > left[self._first[edges]]
            allowed[place, self._edge_token[edges][is_open]] = True
            allowed[place, self._end_token] |= node == 0
        return Answer(np.array(ids, dtype=np.int64), np.searchsorted(self._tokens, ids), allowed)

    def _walk(self, labels: Sequence[int], unknown: Sequence[int]) -> tuple[list[int], list[int], list[Ints]]:
        """Return the ids of an answer, the node before each, and the sums of labels left at each."""
        left = np.ones(self._n_labels, dtype=np.int64)
        left[self._rank[list(unknown)]] = 0
        ids: list[int] = []
        nodes: list[int] = []
        counts: list[Ints] = []
        for label in labels:
            sums = np.concatenate([[0], np.cumsum(left)])
            node = 0
            for token in self._paths[label]:
                ids.append(token)
                nodes.append(node)
                counts.append(sums)
                node = self._next(node, token)
            left[self._rank[label]] = 0
        return [*ids, self._end], [*nodes, 0], [*counts, np.concatenate([[0], np.cumsum(left)])]

    def _next(self, node: int, token: int) -> int:
        """Return the node that a token leads to, -1 behind a name."""
        start, stop = self._edges_of[node], self._edges_of[node + 1]
        place = np.searchsorted(self._tokens, token)
        return int(self._to[start + int(np.flatnonzero(self._edge_token[start:stop] == place)[0])])
