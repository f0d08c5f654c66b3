"""Which tokens see each other and where they stand, in the form in which transformers models take it.

Facts about transformers 5.23 that this rests on: a mask of four dimensions goes through ``create_causal_mask`` and
``create_bidirectional_mask`` as it is; torch's fused attention takes a boolean one, ``eager`` attention adds the mask
to the scores and would take True for 1; a model whose layers differ takes a dictionary of masks, by kind of layer.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mlclf.backbones import attention
from mlclf.backbones.building import first_position, is_causal
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Batch

_FULL, _SLIDING = "full_attention", "sliding_attention"


def model_inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    """Return what a model is called with for a batch.

    Parameters
    ----------
    model : PreTrainedModel
    batch : Batch
        With ``position_ids`` and ``visible`` or without.

    Raises
    ------
    IncompatibleComponentsError
        If the model cannot honour them.
    """
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.position_ids is None and batch.visible is None:
        return inputs
    check_takes_masks(model)
    real = batch.attention_mask.bool()
    positions = counted_positions(real) if batch.position_ids is None else batch.position_ids
    inputs["position_ids"] = positions + first_position(model.config)
    if batch.visible is not None:
        inputs["attention_mask"] = model_masks(model, batch.visible & real[:, None], positions, positions)
    return inputs


def counted_positions(mask: Tensor) -> Tensor:
    """Return positions counted from a row's first token, int64, for a mask ``(n_rows, length)`` of tokens."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def check_takes_masks(model: PreTrainedModel) -> None:
    """Refuse a model that would ignore who sees whom, or the positions, without an error.

    Raises
    ------
    IncompatibleComponentsError
    """
    kinds = set(getattr(model.config, "layer_types", None) or ())
    other = sorted(kinds - {_FULL, _SLIDING})
    takes = "position_ids" in inspect.signature(type(model).forward).parameters
    if other or not takes or not getattr(model, "_supports_attention_backend", False):
        why = f"it has layers of the kind {', '.join(other)}" if other else "its attention has rules of its own"
        raise IncompatibleComponentsError(
            f"The architecture {model.config.model_type!r} cannot be told which tokens see each other: {why}. Choose a "
            "model whose layers are full or sliding attention, such as a Llama, Qwen 3, BERT or ModernBERT, or a head "
            "that reads texts alone, such as head='bce'."
        )


def model_masks(
    model: PreTrainedModel, visible: Tensor, positions: Tensor, seen_positions: Tensor
) -> Tensor | dict[str, Tensor]:
    """Return the mask, or masks, that a model takes.

    Parameters
    ----------
    model : PreTrainedModel
    visible : Tensor of bool, shape (n_rows, n_tokens, n_seen)
        True where a token sees another. The last ``n_tokens`` of those seen are the tokens themselves, and each sees
        itself whatever stands here: a token that sees nothing would have no defined state.
    positions : Tensor of int64, shape (n_rows, n_tokens)
        Counted from 0.
    seen_positions : Tensor of int64, shape (n_rows, n_seen)

    Returns
    -------
    Tensor, shape (n_rows, 1, n_tokens, n_seen), or dict of such by kind of layer
    """
    visible = visible | _own(visible)
    config = model.config
    window: Any = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ()
    if _SLIDING not in kinds and (kinds or window is None):
        return _prepared(model, visible)
    near = _prepared(model, visible & _within(config, window, positions[:, :, None] - seen_positions[:, None]))
    return {_FULL: _prepared(model, visible), _SLIDING: near} if kinds else near


def sees_ahead(config: PreTrainedConfig) -> bool:
    """Tell whether the tokens of a model see what comes after them."""
    opened = not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False)
    return bool(opened) or not is_causal(type(config))


def _own(visible: Tensor) -> Tensor:
    """Return where a token sees itself, ``(1, n_tokens, n_seen)``."""
    n_tokens, n_seen = visible.shape[1:]
    seen = torch.arange(n_seen, device=visible.device)
    return (seen[None] == (torch.arange(n_tokens, device=visible.device) + (n_seen - n_tokens))[:, None])[None]


def _within(config: PreTrainedConfig, window: int, distance: Tensor) -> Tensor:
    """Return where a token stands within the sliding window of another that is ``distance`` positions after it."""
    if not sees_ahead(config):
        return distance < window
    if getattr(config, "use_bidirectional_attention", False):
        return distance.abs() < window  # Gemma 3 counts the token itself
    return distance.abs() <= window


def _prepared(model: PreTrainedModel, visible: Tensor) -> Tensor:
    """Return a mask in the form of the model's attention function."""
    mask, implementation = visible[:, None], model.config._attn_implementation
    if implementation == attention.NAME:
        return attention.prepared(mask, model.dtype)
    return attention.additive(mask, model.dtype) if implementation == "eager" else mask
