"""Reading in several goes with a causal transformers model: its keys and values, and what is computed from there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from mlclf.backbones.visibility import check_takes_masks, counted_positions, model_masks, sees_ahead
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Batch, Memory


class KeyValueMemory(Memory):
    """Keys and values of every layer, over all tokens that were read.

    Layers with sliding windows keep all tokens too, and hide those outside of the window by their positions: a window
    that is counted in stored tokens would be wrong where several branches share positions.

    Parameters
    ----------
    cache : Cache
        Of transformers, with plain layers.
    mask : Tensor of bool, shape (n_rows, n_remembered)
        False where a remembered token is padding.
    positions : Tensor of int64, shape (n_rows, n_remembered)
        Counted from 0.
    """

    def __init__(self, cache: Cache, mask: Tensor, positions: Tensor) -> None:
        super().__init__(mask, positions)
        self.cache = cache

    def rows(self, index: Tensor) -> Self:
        """Return a memory of some rows, which may repeat."""
        twin = self.copy()
        twin.mask, twin.positions = self.mask[index], self.positions[index]
        for layer in twin.cache.layers:
            own = index.to(layer.keys.device)
            layer.keys, layer.values = layer.keys[own], layer.values[own]
        return twin

    def copy(self) -> Self:
        """Return a memory that can be read on from without changing this one; no tensor is copied."""
        twin = copy.copy(self)
        twin.cache = DynamicCache()
        twin.cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return twin


def read(model: PreTrainedModel, batch: Batch, inputs: Callable[[Batch], dict[str, Tensor]]) -> tuple[Tensor, Memory]:
    """Read a batch and remember it; see :meth:`mlclf.interfaces.memory.MemoryReader.read`.

    Parameters
    ----------
    model : PreTrainedModel
        A causal one.
    batch : Batch
    inputs : callable
        Gives what the model is called with for a batch.

    Raises
    ------
    IncompatibleComponentsError
        If the model keeps no keys and values, or recomputes its layers in training, for which it drops them.
    """
    _check_remembers(model)
    mask = batch.attention_mask.bool()
    positions = counted_positions(mask) if batch.position_ids is None else batch.position_ids
    memory = KeyValueMemory(DynamicCache(), mask, positions)
    states: Tensor = model(**inputs(batch), past_key_values=memory.cache, use_cache=True).last_hidden_state
    _check_filled(model, memory)
    return states, memory


def read_on(
    model: PreTrainedModel,
    memory: KeyValueMemory,
    ids: Tensor,
    position_ids: Tensor | None,
    visible: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """Return the states of further tokens and remember them; see :meth:`mlclf.interfaces.memory.MemoryReader.peek`."""
    _check_remembers(model)
    further = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    if position_ids is None:
        position_ids = memory.next_positions[:, None] + counted_positions(further)
    if visible is None:
        visible = _causal(ids, memory.mask.shape[1])
    real = torch.cat([memory.mask, further], dim=1)
    positions = torch.cat([memory.positions, position_ids], dim=1)
    states: Tensor = model(
        input_ids=ids,
        attention_mask=model_masks(model, visible & real[:, None], position_ids, positions),
        position_ids=position_ids,
        past_key_values=memory.cache,
        use_cache=True,
    ).last_hidden_state
    memory.mask, memory.positions = real, positions
    return states


def _causal(ids: Tensor, n_remembered: int) -> Tensor:
    """Return that further tokens see all that is remembered, and themselves up to each, ``(1, n_tokens, n_seen)``."""
    column = torch.arange(n_remembered + ids.shape[1], device=ids.device)
    return (column[None] <= column[n_remembered:, None])[None]


def _check_remembers(model: PreTrainedModel) -> None:
    check_takes_masks(model)
    if sees_ahead(model.config):
        raise IncompatibleComponentsError(
            f"The tokens of this {model.config.model_type!r} model see what comes after them, so that nothing can be "
            "read on from what was read before. Use bidirectional=False, or a causal language model."
        )
    if recomputes(model):
        raise IncompatibleComponentsError(
            "A model whose activations are recomputed in training keeps no keys and values of what it read. Use "
            "TrainingOptions(gradient_checkpointing=False)."
        )


def recomputes(model: PreTrainedModel) -> bool:
    """Tell whether a model computes its layers again in the backward pass, for which transformers drops the cache."""
    return model.training and bool(getattr(model, "is_activation_checkpointing", False))


def _check_filled(model: PreTrainedModel, memory: KeyValueMemory) -> None:
    """Refuse a model that did not put keys and values of all tokens where they were asked for."""
    layers, length = memory.cache.layers, memory.mask.shape[1]
    if layers and all(type(layer) is DynamicLayer and layer.get_seq_length() == length for layer in layers):
        return
    raise IncompatibleComponentsError(
        f"The architecture {model.config.model_type!r} does not keep keys and values of the tokens that it has read. "
        "Choose a causal language model of full or sliding attention, such as a Llama or a Qwen 3."
    )
