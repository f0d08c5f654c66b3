"""From a prompt that has been read to probabilities of labels, or to one set of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlclf.heads.generation.reading import Reading
from mlclf.heads.generation.scoring import Scorer
from mlclf.heads.generation.trie import LabelTrie


@dataclass(frozen=True)
class Limits:
    """How long an answer may be.

    Parameters
    ----------
    labels : int
        Most labels.
    tokens : int
        Most tokens, the end included.
    """

    labels: int
    tokens: int


class _Writing:
    """Rows whose answers are not finished."""

    def __init__(self, reading: Reading, trie: LabelTrie, limits: Limits) -> None:
        n_rows, device = len(reading.last), reading.last.device
        self.reading, self.trie, self.limits = reading, trie, limits
        self.rows = torch.arange(n_rows, device=device)
        self.left = torch.ones(n_rows, trie.n_labels, dtype=torch.bool, device=device)
        self.written = torch.zeros(n_rows, dtype=torch.int64, device=device)

    def write(self, labels: Tensor) -> None:
        """Write one label a row, and leave the rows that chose the end or have no room for their label.

        Parameters
        ----------
        labels : Tensor of int64, shape (n_rows,)
            ``n_labels`` is the end.
        """
        going = labels < self.trie.n_labels
        lengths = self.trie.path_lengths[labels.clamp(max=self.trie.n_labels - 1)]
        going &= self.written + lengths < self.limits.tokens
        going &= (~self.left).sum(dim=1) + 1 < self.limits.labels
        self.rows, self.left, self.written = self.rows[going], self.left[going], (self.written + lengths)[going]
        labels, lengths = labels[going], lengths[going]
        if not len(labels):
            return
        self.left[torch.arange(len(labels), device=labels.device), labels] = False
        self.reading = self.reading.rows(going)
        width = int(lengths.max())
        mask = torch.arange(width, device=labels.device) < lengths[:, None]
        self.reading.read_on(self.trie.path_tokens[labels, :width], mask)


def max_over_steps(reading: Reading, score: Scorer, trie: LabelTrie, limits: Limits) -> Tensor:
    """Return the largest probability that each label has at any step while the most probable labels are written.

    At each step a language model gives nearly all probability to one label, the next one; the others that apply come
    up at later steps.

    Parameters
    ----------
    reading : Reading
        Of the prompts.
    score : Scorer
    trie : LabelTrie
    limits : Limits

    Returns
    -------
    Tensor, shape (n_rows, n_labels)

    References
    ----------
    Ma et al. (2025), "Large Language Models Do Multi-Label Classification Differently", arXiv:2505.17510.
    """
    best = torch.zeros(len(reading.last), trie.n_labels, device=reading.last.device)
    writing = _Writing(reading, trie, limits)
    while len(writing.rows):
        found = score(writing.reading, writing.left)
        best[writing.rows] = torch.maximum(best[writing.rows], found[:, :-1].exp())
        writing.write(found.argmax(dim=1))
    return best


def mean_over_samples(reading: Reading, score: Scorer, trie: LabelTrie, limits: Limits, uniform: Tensor) -> Tensor:
    """Estimate the probability that each label is part of an answer, from answers that are drawn.

    A label is written at most once, so that the probability of its being written is the expected sum, over the steps
    of an answer, of its probability at each step. The sum has the same mean as counting labels in the answers, and a
    smaller variance.

    Parameters
    ----------
    reading : Reading
        Of the prompts.
    score : Scorer
    trie : LabelTrie
    limits : Limits
    uniform : Tensor of float64, shape (n_rows, n_samples, n_steps)
        Random numbers between 0 and 1, one a step; used again from the first where there are more steps.

    Returns
    -------
    Tensor, shape (n_rows, n_labels)
    """
    n_rows, n_samples, n_steps = uniform.shape
    owner = torch.arange(n_rows, device=uniform.device).repeat_interleave(n_samples)
    numbers = uniform.flatten(0, 1)
    total = torch.zeros(n_rows, trie.n_labels, device=uniform.device)
    writing = _Writing(reading.rows(owner), trie, limits)
    step = 0
    while len(writing.rows):
        found = score(writing.reading, writing.left).exp()
        total.index_add_(0, owner[writing.rows], found[:, :-1])
        sums = found.double().cumsum(dim=1)
        drawn = numbers[writing.rows, step % n_steps, None] * sums[:, -1:]
        writing.write((sums <= drawn).sum(dim=1).clamp(max=trie.n_labels))
        step += 1
    return (total / n_samples).clamp(max=1)


def greedy_sets(reading: Reading, trie: LabelTrie, limits: Limits) -> Tensor:
    """Write the most probable token at each step, among those by which a set of labels can go on.

    Parameters
    ----------
    reading : Reading
        Of the prompts.
    trie : LabelTrie
    limits : Limits

    Returns
    -------
    Tensor of bool, shape (n_rows, n_labels)
    """
    chosen = torch.zeros(len(reading.last), trie.n_labels, dtype=torch.bool, device=reading.last.device)
    rows = torch.arange(len(chosen), device=chosen.device)
    node, written = torch.zeros_like(rows), torch.zeros_like(rows)
    longest = max(map(len, trie.paths))
    while len(rows):
        logits = reading.logits(reading.last, trie.tokens)
        full = (chosen[rows].sum(dim=1) >= limits.labels) | (written + longest >= limits.tokens)
        edges = trie.open_edges(~chosen[rows]) & (trie.edge_from == node[:, None])
        edges &= ~(full & (node == 0))[:, None]
        scores = logits[:, trie.edge_token].masked_fill(~edges, -torch.inf)
        end = logits[:, trie.end_token].masked_fill(node != 0, -torch.inf)
        best, edge = scores.max(dim=1)
        going = best > end
        rows, edge, written = rows[going], edge[going], written[going] + 1
        if not len(rows):
            break
        label = trie.edge_label[edge]
        chosen[rows[label >= 0], label[label >= 0]] = True
        node = trie.edge_to[edge].clamp(min=0)
        reading = reading.rows(going)
        ids = trie.tokens[trie.edge_token[edge]][:, None]
        reading.read_on(ids, torch.ones_like(ids, dtype=torch.bool))
    return chosen
