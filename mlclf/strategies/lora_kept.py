"""Frozen weights in the type of the arithmetic, converted once and kept while a processor trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlclf.packed_weight import can_pack
from mlclf.strategies.lora_packed import PackedLayers
from mlclf.strategies.lora_update import Update, updated


class KeptWeights:
    """Computes layers with weights that were converted for an earlier pass, where they have to be converted at all.

    They are the same in every step, and converting them took a tenth of one. Where nothing is converted, in float32
    for example, nothing is kept: it would be a second copy of the model.
    """

    def __init__(self) -> None:
        self.clear()

    def __reduce__(self) -> tuple[type[KeptWeights], tuple[()]]:
        return KeptWeights, ()  # a copy makes its own

    def clear(self) -> None:
        """Forget the weights."""
        self._made: PackedLayers | None = None
        self._key: tuple[Any, ...] = ()
        self._sources: Sequence[Update] = ()

    def outputs(self, x: Tensor, updates: Sequence[Update]) -> tuple[Tensor, ...]:
        """Return the outputs of layers for the same input, shape (..., out_features) each.

        Parameters
        ----------
        x : Tensor, shape (..., in_features)
        updates : sequence of Update
            All of one type of arithmetic.
        """
        if not all(map(_is_converted, updates)):
            return updated(x, updates)
        key = tuple(map(_key, updates))
        if self._made is None or key != self._key:
            # The sources are held, so that no other tensor gets their ids.
            self._made, self._key, self._sources = PackedLayers(updates), key, updates
        return self._made.outputs(x, updates)


def _is_converted(update: Update) -> bool:
    weight = update.weight
    plain = isinstance(weight, Tensor) and weight.dtype != update.dtype and weight.device.type == "cpu"
    return plain and update.dtype is torch.bfloat16 and can_pack()


def _key(update: Update) -> tuple[Any, ...]:
    """Return what changes when something else is to be kept: a tensor that is written to counts its versions."""
    tensors = (update.weight, update.bias)
    return update.dtype, update.down.shape, *((id(one), None if one is None else one._version) for one in tensors)
