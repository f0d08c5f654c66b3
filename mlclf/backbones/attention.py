"""Attention that trains fast on a processor, offered to transformers under the name ``mlclf``.

torch's fused attention is written for long sequences on graphics cards. On a processor its backward pass in bfloat16
takes several times as long as plain matrix products at the lengths of sentences, and dropout of attention weights
sends it to a slower form altogether. Plain products are therefore used there while gradients are recorded; everything
else goes to torch's fused attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mlclf.backbones.dropout import dropout as fast_dropout
from mlclf.backbones.short_attention import ShortAttention

NAME = "mlclf"

# Longer rows keep the fused form, which needs memory linear in the length, unless dropout rules that out anyway.
_LONGEST = 256
# What transformers' own function can also do, and the plain products cannot.
_NOT_PLAIN = ("position_bias", "softcap", "s_aux", "cache")
# torch takes rows shorter than a vector register value by value, in half precision those of less than 32.
_SHORT_ROW = 32


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """Return the attention output, in the form that transformers asks of an attention function.

    Parameters
    ----------
    module : nn.Module
        The attention layer.
    query, key, value : Tensor, shape (n_rows, n_heads, length, head_size)
    attention_mask : Tensor or None
        From :func:`attention_mask_for`: added to the scores, or boolean.
    dropout : float
        Rate of dropout of the attention weights; 0 outside training.
    scaling : float or None
        Factor of the scores; None takes one over the root of the head size.
    **extra
        Arguments of transformers' own function, passed on to it.

    Returns
    -------
    output : Tensor, shape (n_rows, length, n_heads, head_size)
    weights : None
    """
    if not _is_plain(query, key, extra) or (dropout == 0.0 and not _plain_is_faster(query)):
        return _fused(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **extra)
    if _is_short(key, attention_mask):
        dtype = _arithmetic(query)
        mask = None if attention_mask is None else additive(attention_mask, dtype).to(dtype)
        states = (query.to(dtype), key.to(dtype), value.to(dtype))
        short: Tensor = ShortAttention.apply(*states, mask, scaling or query.shape[-1] ** -0.5, dropout)  # type: ignore[no-untyped-call]
        return short, None
    scores = torch.matmul(query * (scaling or query.shape[-1] ** -0.5), key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + additive(attention_mask, scores.dtype)
    precise = torch.float32 if scores.shape[-1] < _SHORT_ROW else scores.dtype
    weights = scores.softmax(dim=-1, dtype=precise).to(value.dtype)
    if dropout > 0.0:
        weights = fast_dropout(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _plain_is_faster(query: Tensor) -> bool:
    """Say whether plain products are faster where no attention weight is dropped (measured)."""
    half = _arithmetic(query) in (torch.bfloat16, torch.float16)
    return query.requires_grad and (query.shape[2] <= _LONGEST if half else query.shape[2] < _SHORT_ROW)


def _arithmetic(query: Tensor) -> torch.dtype:
    """Return the type of the products; rotary positions give queries of float32 under autocast too."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype


def _is_short(key: Tensor, mask: Tensor | None) -> bool:
    """Say whether rows are so short that their operations are better written out (measured)."""
    learns = mask is not None and mask.requires_grad
    recorded = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return key.shape[2] < _SHORT_ROW and recorded and not learns


def _is_plain(query: Tensor, key: Tensor, extra: dict[str, Any]) -> bool:
    """Say whether the plain products here compute what is asked for, and on a processor."""
    asked = any(extra.get(name) is not None for name in _NOT_PLAIN)
    return query.device.type == "cpu" and key.shape[1] == query.shape[1] and not asked and not extra.get("is_causal")


def _fused(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **extra: Any
) -> tuple[Tensor, None]:
    if attention_mask is not None and attention_mask.dtype is not torch.bool:
        attention_mask = attention_mask.to(query.dtype)
    arguments = {"is_causal": False, **extra}
    output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    return output


def attention_mask_for(
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", **arguments: Any
) -> Tensor | None:
    """Return the mask that :func:`attention` takes.

    Parameters
    ----------
    dtype : torch.dtype
        Type of the states; under autocast the mask has the type of the scores instead.
    device : torch.device or str
        Where the mask is made.
    **arguments
        What transformers passes to every mask function.

    Returns
    -------
    Tensor or None
        To be added to the scores where gradients are recorded on a processor, so that it is made once for all
        layers; boolean elsewhere; None where nothing is masked.
    """
    mask: Tensor | None = sdpa_mask(device=device, **arguments)
    return None if mask is None else prepared(mask, dtype)


def prepared(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a boolean mask in the form in which :func:`attention` computes with it, once for all layers."""
    if mask.device.type != "cpu" or not torch.is_grad_enabled():
        return mask
    return additive(mask, torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask that is added to scores: 0 where a token is seen."""
    if mask.dtype is not torch.bool:
        return mask
    # Not minus infinity: a row that is all padding must stay finite.
    return torch.where(mask, torch.zeros((), dtype=dtype), torch.finfo(dtype).min)


# At import, so that a model that was pickled finds its attention in a new process.
AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, attention_mask_for)
