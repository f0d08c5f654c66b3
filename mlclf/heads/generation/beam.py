"""Scores of the labels that a beam over the trie finds, for label spaces too large to score whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlclf.heads.generation.reading import Reading
from mlclf.heads.generation.scoring import Scorer
from mlclf.heads.generation.trie import LabelTrie


@dataclass(frozen=True)
class _Front:
    """Beginnings of names that are followed: their nodes, log-probabilities, ids and last states, per row."""

    nodes: Tensor
    scores: Tensor
    paths: Tensor
    states: Tensor


class BeamScorer(Scorer):
    """Follows the most probable beginnings of names, token by token; other labels have probability 0.

    Scores of the labels that are found are exact. With a beam as wide as the trie it equals
    :class:`~mlclf.heads.generation.scoring.PackedScorer`.

    Parameters
    ----------
    trie : LabelTrie
    width : int
        Beginnings that are kept at each length.
    """

    def __init__(self, trie: LabelTrie, width: int) -> None:
        super().__init__()
        self.trie, self.width = trie, width

    def forward(self, reading: Reading, left: Tensor) -> Tensor:
        """Return log-probabilities; see :class:`~mlclf.heads.generation.scoring.Scorer`."""
        n_rows, device = left.shape[0], left.device
        found = torch.full((n_rows, self.trie.n_labels + 1), -torch.inf, device=device)
        is_open = self.trie.open_edges(left)
        nothing = torch.zeros(n_rows, 1, dtype=torch.int64, device=device)
        front = _Front(nothing, nothing.float(), nothing[..., None][..., :0], reading.last[:, None])
        while front.nodes.shape[1]:
            edges, scores = self._extended(reading, front, is_open, found)
            front = self._kept(reading, front, edges, scores)
        return found

    def _extended(self, reading: Reading, front: _Front, is_open: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Score all edges that leave the front; names that end there are entered in ``found``.

        Returns
        -------
        edges : Tensor of int64, shape (n_rows, n_front, n_edges)
        scores : Tensor, shape (n_rows, n_front, n_edges)
            Minus infinity where there is no edge, or it closes a name.
        """
        trie = self.trie
        first, stop = trie.edges_of[front.nodes], trie.edges_of[front.nodes + 1]
        edges = first[..., None] + torch.arange(int((stop - first).max()), device=first.device)
        exists = edges < stop[..., None]
        edges = edges.clamp(max=len(trie.edge_from) - 1)
        exists &= is_open.gather(1, edges.flatten(1)).view_as(edges) & front.scores.isfinite()[..., None]
        logits = reading.logits(front.states.flatten(0, 1), trie.tokens).view(*front.nodes.shape, -1)
        chosen = logits.gather(2, trie.edge_token[edges]).masked_fill(~exists, -torch.inf)
        end = logits[..., trie.end_token, None].masked_fill((front.nodes != 0)[..., None], -torch.inf)
        # A beginning that is not followed has nothing open; its scores must be minus infinity and not undefined.
        total = torch.cat([chosen, end], dim=2).logsumexp(dim=2, keepdim=True)
        total = total.masked_fill(total.isinf(), 0)
        scores = front.scores[..., None] + chosen - total
        if not front.paths.shape[2]:
            found[:, -1] = (end - total)[:, 0, 0]
        closes = trie.edge_label[edges] >= 0
        row = torch.arange(len(edges), device=edges.device)[:, None, None].expand_as(edges)
        entered = closes & exists
        found[row[entered], trie.edge_label[edges][entered]] = scores[entered]
        return edges, scores.masked_fill(closes, -torch.inf)

    def _kept(self, reading: Reading, front: _Front, edges: Tensor, scores: Tensor) -> _Front:
        """Keep the best beginnings and read their last token."""
        going = int(scores.isfinite().flatten(1).sum(dim=1).max())
        best, places = scores.flatten(1).topk(min(self.width, going), dim=1)
        edge = edges.flatten(1).gather(1, places)
        origin = (places // max(1, edges.shape[2]))[..., None].expand(-1, -1, front.paths.shape[2])
        token = self.trie.tokens[self.trie.edge_token[edge]]
        paths = torch.cat([front.paths.gather(1, origin), token[..., None]], dim=2)
        nodes = self.trie.edge_to[edge].clamp(min=0)
        return _Front(nodes, best, paths, _read(reading, paths))


def _read(reading: Reading, paths: Tensor) -> Tensor:
    """Return the state of the last token of each path, all read as branches, ``(n_rows, n_paths, hidden)``."""
    n_rows, n_paths, depth = paths.shape
    if not n_paths:
        return reading.last[:, None][:, :0]
    path = torch.arange(n_paths, device=paths.device).repeat_interleave(depth)
    depths = torch.arange(1, depth + 1, device=paths.device).repeat(n_paths)
    tree = (path[:, None] == path) & (depths[:, None] >= depths)
    states = reading.peek(paths.reshape(n_rows, -1), depths, tree)
    return states.view(n_rows, n_paths, depth, -1)[:, :, -1]
