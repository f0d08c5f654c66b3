"""Layers of one block that take the same input, computed together."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from mlclf.strategies.lora_kept import KeptWeights
from mlclf.strategies.lora_update import Update

# Layers of one module that are given the same tensor, by the names that transformers' models use.
_TOGETHER = (
    {"query", "key", "value"},
    {"query_proj", "key_proj", "value_proj"},
    {"q_proj", "k_proj", "v_proj"},
    {"q_lin", "k_lin", "v_lin"},
    {"q", "k", "v"},
    {"gate_proj", "up_proj"},
)


class UpdatedLayer(Protocol):
    """What :class:`SharedInput` needs of a layer."""

    kept: KeptWeights

    def update_for(self, x: Tensor) -> Update | None:
        """Return what to compute for an input, None if it has to be computed in another way."""


class SharedInput:
    """Computes all layers of a group when the first is called, and hands out the others' outputs when asked.

    Where another tensor is given to another layer after all, each layer is computed alone from then on. Nothing here
    depends on earlier passes otherwise, so that a run that is resumed rounds as one that was never interrupted.

    Parameters
    ----------
    layers : sequence of UpdatedLayer
    """

    def __init__(self, layers: Sequence[UpdatedLayer]) -> None:
        self.layers = tuple(layers)
        self.differ = False
        self.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"layers": self.layers, "differ": self.differ}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.clear()

    def clear(self) -> None:
        """Forget the last input, what was computed of it, and the weights kept for it."""
        self.kept = KeptWeights()
        self._input: tuple[weakref.ref[Tensor], int] | None = None
        self._ready: dict[UpdatedLayer, Tensor] = {}

    def taken(self, layer: UpdatedLayer, x: Tensor) -> Tensor | None:
        """Return the output of a layer where it was computed with another one's, shape (..., out_features), else None.

        Parameters
        ----------
        layer : UpdatedLayer
        x : Tensor, shape (..., in_features)
        """
        if self._input is None or self._input[0]() is not x or self._input[1] != x._version:
            return None
        return self._ready.pop(layer, None)

    def output_of(self, layer: UpdatedLayer, x: Tensor, update: Update) -> Tensor:
        """Return the output of a layer that was not computed yet, and compute those of the others with it.

        The output has shape (..., out_features).

        Parameters
        ----------
        layer : UpdatedLayer
        x : Tensor, shape (..., in_features)
        update : Update
            Of the layer, for this input.
        """
        if self._ready:  # somebody was given another tensor: what was computed for it was in vain
            self.differ = True
            self.clear()
        others = [other for other in self.layers if other is not layer]
        updates = [found for other in others if (found := other.update_for(x)) is not None]
        if self.differ or len(updates) < len(others) or any(other.dtype != update.dtype for other in updates):
            self.kept.clear()
            return layer.kept.outputs(x, [update])[0]
        own, *rest = self.kept.outputs(x, [update, *updates])
        self._input, self._ready = (weakref.ref(x), x._version), dict(zip(others, rest, strict=True))
        return own


def share_inputs(model: nn.Module, layers: Iterable[Any]) -> None:
    """Group layers that are children of one module and whose names say that they take the same input.

    Parameters
    ----------
    model : nn.Module
        Holds the layers.
    layers : iterable of UpdatedLayer
        Those that may be grouped; each has the attribute ``shared_input``.
    """
    wanted = {id(layer): layer for layer in layers}
    for module in model.modules():
        for names in _TOGETHER:
            children = (child for name, child in module.named_children() if name in names)
            group = [wanted[id(child)] for child in children if id(child) in wanted]
            if len(group) > 1:
                shared = SharedInput(group)
                for layer in group:
                    layer.shared_input = shared
