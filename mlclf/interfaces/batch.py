"""Batch: the tensors of some samples, the one thing that flows through a network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

_TENSORS = (
    "input_ids",
    "attention_mask",
    "row_samples",
    "targets",
    "known",
    "states",
    "row_tasks",
    "position_ids",
    "visible",
)


@dataclass(frozen=True)
class Batch:
    """Tensors of ``n_samples`` samples, one row per window.

    Parameters
    ----------
    input_ids : Tensor of int64, shape (n_rows, length)
        Token ids, padded on the backbone's padding side.
    attention_mask : Tensor of int64, shape (n_rows, length)
        1 where there is a token, 0 where there is padding.
    n_samples : int
        Samples in the batch; equal to ``n_rows`` unless some sample has several windows.
    row_samples : Tensor of int64, shape (n_rows,), or None
        Position of the sample that owns each row; None where every sample is one row.
    targets : Tensor of float32, shape (n_samples, n_labels), or None
        1 where the label applies; None at prediction.
    known : Tensor of bool, shape (n_samples, n_labels), or None
        False where it is not known whether the label applies; None where all cells are known.
    states : Tensor, shape (n_rows, length, hidden), or None
        Outputs of layer ``first_layer - 1``, computed before; the backbone then starts at ``first_layer``.
    first_layer : int
        Number of the first layer to run; 0 runs everything.
    row_tasks : Tensor of int64, shape (n_rows,), or None
        Number of the task by which each row is to be read, where rows of several tasks share the batch; None where
        there is one task.
    position_ids : Tensor of int64, shape (n_rows, length), or None
        Position of each token, counted from 0; None is the backbone's own rule.
    visible : Tensor of bool, shape (n_rows, length, length), or None
        True where a token (middle axis) sees a token (last axis). Padding is never seen, a token always sees itself,
        and what the model's sliding windows hide stays hidden, by positions. None is the backbone's own rule. Only
        backbones with ``takes_masks`` honour these two.
    extras : dict of str to Tensor
        What a head adds in its ``collate`` for itself.
    """

    input_ids: Tensor
    attention_mask: Tensor
    n_samples: int
    row_samples: Tensor | None = None
    targets: Tensor | None = None
    known: Tensor | None = None
    states: Tensor | None = None
    first_layer: int = 0
    row_tasks: Tensor | None = None
    position_ids: Tensor | None = None
    visible: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with all tensors on a device."""
        moved = {
            name: value.to(device, non_blocking=True) for name in _TENSORS if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved, extras={name: value.to(device) for name, value in self.extras.items()})
