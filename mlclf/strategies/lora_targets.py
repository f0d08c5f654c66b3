"""Which linear layers of a backbone get low-rank updates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.hints import did_you_mean
from mlclf.interfaces import Backbone
from mlclf.linear_layers import is_linear

TargetName = Literal["all-linear", "attention", "qv"]
Targets = TargetName | tuple[str, ...]
Layers = Literal["all"] | int | tuple[int, ...]

_IN_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)
# What architectures call the matrices of queries and values; a fused matrix (ModernBERT's Wqkv, GPT-2's c_attn) holds
# both.
_QUERY_OR_VALUE = re.compile(r"(^|\.)((q|v|query|value)(_lin|_proj)?|\w*qkv\w*|query_key_value|c_attn)$", re.IGNORECASE)
_CHOICES: dict[str, Callable[[str], object]] = {
    "all-linear": lambda name: True,
    "attention": _IN_ATTENTION.search,
    "qv": _QUERY_OR_VALUE.search,
}


def check_targets(value: Any) -> Any:
    """Return the value of an option ``targets``, or raise ValueError if it can be none."""
    if isinstance(value, str) and value not in _CHOICES:
        known = ", ".join(map(repr, _CHOICES))
        raise ValueError(f"must be one of {known}, or a tuple of ends of names.{did_you_mean(value, _CHOICES)}")
    if isinstance(value, (list, tuple)) and not (value and all(isinstance(part, str) and part for part in value)):
        raise ValueError("a tuple of ends of names must hold at least one, and only text")
    return value


def check_layers(value: Any) -> Any:
    """Return the value of an option ``layers``, or raise ValueError if it can be none."""
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    several = isinstance(value, (list, tuple))
    if value == "all" or (whole and numbers and min(numbers) >= (0 if several else 1)):
        return value
    raise ValueError("must be 'all', a number of upper layers of at least 1, or a tuple of layer numbers from 0")


def find_targets(backbone: Backbone, targets: Targets, layers: Layers) -> tuple[str, ...]:
    """Return the names in ``backbone.model`` of the linear layers that are to be adapted.

    Parameters
    ----------
    backbone : Backbone
        Loaded and not yet adapted.
    targets : {"all-linear", "attention", "qv"} or tuple of str
        Which linear layers; a tuple holds ends of names, such as ``("query", "output.dense")``.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest.

    Raises
    ------
    IncompatibleComponentsError
        If there is no such linear layer, or no such layer of the stack.
    """
    chosen, unused = set(chosen_layers(backbone.n_layers, layers)), backbone.unused_parameters()
    linear = {
        name: inner
        for number, name, inner in _linear_layers(backbone)
        if (number is None or number in chosen) and not unused & {f"{name}.weight", f"{name}.bias"}
    }
    if isinstance(targets, str):
        found = tuple(name for name, inner in linear.items() if _CHOICES[targets](inner))
    else:
        _check_suffixes(targets, list(linear.values()))
        found = tuple(name for name, inner in linear.items() if any(_ends(inner, suffix) for suffix in targets))
    if not found:
        endings = _endings(list(linear.values()))
        instead = "targets='all-linear' or ends of these names" if endings else "strategy='full' or 'head-only'"
        raise IncompatibleComponentsError(
            f"LoraOptions(targets={targets!r}) matches no linear layer of backbone {backbone.options.component!r}. "
            f"It has: {endings or 'none'}. Use {instead}."
        )
    return found


def chosen_layers(n_layers: int, layers: Layers, owner: str = "LoraOptions") -> tuple[int, ...]:
    """Return the numbers of the layers to adapt, from the lowest up.

    Parameters
    ----------
    n_layers : int
        Layers of the backbone's stack; 0 where it has none.
    layers : "all", int or tuple of int
        As in :func:`find_targets`.
    owner : str
        Class of the options that it comes from, for errors.

    Raises
    ------
    IncompatibleComponentsError
        If a layer does not exist.

    Examples
    --------
    >>> chosen_layers(6, 2), chosen_layers(6, (4, 0))
    ((4, 5), (0, 4))
    """
    if layers == "all":
        return tuple(range(n_layers))
    if n_layers == 0:
        raise IncompatibleComponentsError(
            f"{owner}(layers={layers!r}) needs a stack of layers, and this backbone has none: its layers share "
            "weights (ALBERT) or cannot be told apart. Use layers='all'."
        )
    wanted = range(n_layers - layers, n_layers) if isinstance(layers, int) else sorted(set(layers))
    if wanted[0] < 0 or wanted[-1] >= n_layers:
        raise IncompatibleComponentsError(
            f"{owner}(layers={layers!r}) does not fit the {n_layers} layers of this backbone. Use a number from 1 "
            f"to {n_layers}, numbers of layers from 0 to {n_layers - 1}, or 'all'."
        )
    return tuple(wanted)


def _linear_layers(backbone: Backbone) -> list[tuple[int | None, str, str]]:
    """Return number of the layer, name in the model and name in the layer of each linear layer.

    Where there is no stack, the whole model counts as one layer without a number.
    """
    layers = backbone.layers()
    parts: list[tuple[int | None, nn.Module]] = list(enumerate(layers)) if layers else [(None, backbone.model)]
    prefixes = {id(module): name for name, module in backbone.model.named_modules()}
    return [
        (number, f"{prefixes[id(part)]}.{inner}".removeprefix("."), inner)
        for number, part in parts
        for inner, module in part.named_modules()
        if is_linear(module)
    ]


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def _check_suffixes(suffixes: tuple[str, ...], names: list[str]) -> None:
    """Refuse an end of a name that no linear layer has: a typing error would leave layers out without a sign."""
    for suffix in suffixes:
        if not any(_ends(name, suffix) for name in names):
            known = sorted({name.rsplit(".", 1)[-1] for name in names} | set(names))
            raise IncompatibleComponentsError(
                f"LoraOptions(targets=...): no linear layer's name ends in {suffix!r}."
                f"{did_you_mean(suffix, known)} There are: {_endings(names) or 'none'}."
            )


def _endings(names: list[str]) -> str:
    """Return the last parts of names, each once, for messages."""
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in names}))
