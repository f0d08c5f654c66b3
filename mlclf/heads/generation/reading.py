"""Reading: how far a model has read each row of a batch, and what it has written there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlclf.interfaces import Backbone, Batch
from mlclf.interfaces.memory import Memory


@dataclass
class Reading:
    """Rows that a model has read up to some token.

    Parameters
    ----------
    backbone : Backbone
    memory : Memory
    last : Tensor, shape (n_rows, hidden)
        State of each row's last token.
    positions : Tensor of int64, shape (n_rows,)
        Position of the next token.
    """

    backbone: Backbone
    memory: Memory
    last: Tensor
    positions: Tensor

    @classmethod
    def start(cls, backbone: Backbone, head: Tensor, ids: Tensor, mask: Tensor) -> Reading:
        """Read the prompts of a batch: the part that is the same for all once, its memory repeated for each row.

        Parameters
        ----------
        backbone : Backbone
        head : Tensor of int64, shape (n_head,)
            What stands before every text.
        ids : Tensor of int64, shape (n_rows, length)
            Text and tail, padded on the right.
        mask : Tensor of bool, shape (n_rows, length)
        """
        if not len(head):
            states, memory = backbone.read(Batch(ids, mask.long(), n_samples=len(ids)))
            counts = mask.sum(dim=1)
            return cls(backbone, memory, _at(states, counts - 1), counts)
        one = head[None]
        states, memory = backbone.read(Batch(one, torch.ones_like(one), n_samples=1))
        every = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
        positions = every + len(head)
        reading = cls(backbone, memory.rows(every), states[0, -1].expand(len(ids), -1), positions)
        reading.read_on(ids, mask)
        return reading

    def rows(self, index: Tensor) -> Reading:
        """Return some of the rows, which may repeat; ``index`` holds numbers, or says yes or no for each."""
        return Reading(self.backbone, self.memory.rows(index), self.last[index], self.positions[index])

    def read_on(self, ids: Tensor, mask: Tensor) -> None:
        """Read further tokens of each row, padded on the right; a row may have none."""
        if not ids.shape[1]:
            return
        steps = torch.arange(ids.shape[1], device=ids.device)
        states = self.backbone.read_on(self.memory, ids, self.positions[:, None] + steps, mask=mask)
        counts = mask.sum(dim=1)
        self.last = torch.where(counts[:, None] > 0, _at(states, (counts - 1).clamp(min=0)), self.last)
        self.positions = self.positions + counts

    def peek(self, ids: Tensor, depths: Tensor, tree: Tensor) -> Tensor:
        """Return the states of branches that grow from each row's last token.

        Parameters
        ----------
        ids : Tensor of int64, shape (n_rows, n_tokens)
        depths : Tensor of int64, shape (n_tokens,)
            Distance of each token from the row's last one, from 1.
        tree : Tensor of bool, shape (n_tokens, n_tokens)
            Which tokens of the branches see each other.

        Returns
        -------
        Tensor, shape (n_rows, n_tokens, hidden)
        """
        remembered = self.memory.mask.shape[1]
        before = torch.ones(len(ids), len(tree), remembered, dtype=torch.bool, device=ids.device)
        visible = torch.cat([before, tree.expand(len(ids), -1, -1)], dim=2)
        return self.backbone.peek(self.memory, ids, self.positions[:, None] + depths - 1, visible)

    def logits(self, states: Tensor, token_ids: Tensor) -> Tensor:
        """Return logits of some tokens behind some states, float32 ``(n, n_tokens)``."""
        vocabulary = self.backbone.vocabulary
        assert vocabulary is not None
        found: Tensor = vocabulary(states, token_ids).float()
        return found


def _at(states: Tensor, places: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), places]
