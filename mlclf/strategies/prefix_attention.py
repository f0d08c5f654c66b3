"""Attention over learned keys and values, which stand before those of the tokens; offered to transformers by name.

peft hands prefixes to a model as if they were the cache of tokens read earlier. Encoders without a cache (DistilBERT,
ALBERT, ModernBERT and others) ignore that without a word, and it shifts the positions of the real tokens. Here the
function that a model asks for its attention puts them in: no cache, no shifted position, and the mask of the real
tokens keeps its meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

# The module that holds an attention layer's prefix is its child of this name.
CHILD = "learned_prefix"
# Attention functions that prefixes are put in front of, and the name under which transformers finds each.
NAMES = {inner: f"mlclf-prefix-{inner}" for inner in ("eager", "sdpa", "mlclf")}


@dataclass(frozen=True)
class AttentionCall:
    """What one attention layer computed with in a trial run.

    Parameters
    ----------
    module : nn.Module
        The layer.
    n_heads : int
        Heads of its keys and values; fewer than those of its queries where queries are grouped.
    key_size, value_size : int
        Size of a head's key and of its value.
    mask_is_known : bool
        Whether all that masks a token stands in the mask, so that a prefix can be left visible.
    """

    module: nn.Module
    n_heads: int
    key_size: int
    value_size: int
    mask_is_known: bool


_calls: ContextVar[list[AttentionCall] | None] = ContextVar("mlclf_attention_calls", default=None)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    inner: str,
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return the attention output of a layer, whose prefix is visible to every query.

    Parameters
    ----------
    module : nn.Module
        The attention layer; without a prefix, its output is that of the inner function.
    query : Tensor, shape (n_rows, n_query_heads, length, key_size)
    key : Tensor, shape (n_rows, n_heads, length, key_size)
    value : Tensor, shape (n_rows, n_heads, length, value_size)
    attention_mask : Tensor or None
        Boolean (True is visible) or added to the scores; None where nothing is masked.
    inner : str
        Name of the attention function to compute with.
    **extra
        What else the layer gives to that function.

    Returns
    -------
    output : Tensor, shape (n_rows, length, n_query_heads, value_size)
    weights : Tensor or None
    """
    if (calls := _calls.get()) is not None:
        known = extra.get("position_bias") is None and not (attention_mask is None and _is_causal(module, extra))
        calls.append(AttentionCall(module, key.shape[1], key.shape[-1], value.shape[-1], known))
    function: AttentionFunction = _function(module, inner)
    prefix = getattr(module, CHILD, None)
    if prefix is None:
        return function(module, query, key, value, attention_mask, **extra)
    keys, values = prefix()
    mask = None if attention_mask is None else _with_visible(attention_mask, keys.shape[1])
    # Left to itself, torch's attention would take a missing mask for a causal one, and count it from the first key.
    arguments = {**extra, "is_causal": False}
    return function(module, query, _before(keys, key), _before(values, value), mask, **arguments)


def mask_for(*, inner: str, **arguments: Any) -> Tensor | None:
    """Return the mask of the inner attention function; never None for a causal one.

    Parameters
    ----------
    inner : str
        Name of the attention function.
    **arguments
        What transformers passes to every mask function.
    """
    mask: Tensor | None = ALL_MASK_ATTENTION_FUNCTIONS[inner](**{**arguments, "allow_is_causal_skip": False})
    return mask


@contextmanager
def prefixed_attention(model: Any) -> Iterator[None]:
    """Let a model compute with :func:`attend` for a while."""
    inner = model.config._attn_implementation
    model.config._attn_implementation = NAMES[inner]
    try:
        yield
    finally:
        model.config._attn_implementation = inner


def recorded(run: Callable[[], object]) -> list[AttentionCall]:
    """Return the calls of :func:`attend` while something runs, in their order."""
    calls: list[AttentionCall] = []
    token = _calls.set(calls)
    try:
        with torch.no_grad():
            run()
    finally:
        _calls.reset(token)
    return calls


def _function(module: nn.Module, inner: str) -> Any:
    """Return an attention function; the one named eager is each architecture's own, beside its layers."""
    if inner == "eager":
        return vars(sys.modules[type(module).__module__])["eager_attention_forward"]
    return ALL_ATTENTION_FUNCTIONS[inner]


def _is_causal(module: nn.Module, extra: dict[str, Any]) -> bool:
    asked = extra.get("is_causal")
    return bool(getattr(module, "is_causal", False) if asked is None else asked)


def _before(prefix: Tensor, tokens: Tensor) -> Tensor:
    """Put ``(n_heads, n_tokens, size)`` before each row of ``(n_rows, n_heads, length, size)``."""
    rows = prefix.to(tokens.dtype).unsqueeze(0).expand(tokens.shape[0], -1, -1, -1)
    return torch.cat([rows, tokens], dim=2)


def _with_visible(mask: Tensor, n_tokens: int) -> Tensor:
    """Put columns before a mask that every query sees: true ones, or zeros where the mask is added to scores."""
    visible = mask.new_full((*mask.shape[:-1], n_tokens), mask.dtype is torch.bool)
    return torch.cat([visible, mask], dim=-1)


# At import, so that a model that was pickled finds its attention in a new process.
for _inner, _name in NAMES.items():
    AttentionInterface.register(_name, partial(attend, inner=_inner))
    AttentionMaskInterface.register(_name, partial(mask_for, inner=_inner))
