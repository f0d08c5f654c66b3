"""Which linear layers each layer of a backbone runs, in order, and which of them are attention's output and the FFN's.

No architecture is named here: a run over two short texts shows what is run and when. The names of modules serve for one
thing only, to tell what belongs to attention.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.hints import did_you_mean
from mlclf.interfaces import Backbone
from mlclf.linear_layers import is_conv1d

_IN_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)


@dataclass(frozen=True)
class LinearRun:
    """One call of a linear layer.

    Parameters
    ----------
    name : str
        Name in ``backbone.model``.
    inner : str
        Name in its layer of the stack.
    n_in, n_out : int
        Width of what goes in and of what comes out.
    """

    name: str
    inner: str
    n_in: int
    n_out: int

    @property
    def in_attention(self) -> bool:
        """Whether the layer belongs to attention, by its name."""
        return _IN_ATTENTION.search(self.inner) is not None


@dataclass(frozen=True)
class LayerRuns:
    """The linear layers that one layer of the stack runs.

    Parameters
    ----------
    number : int or None
        Number of the layer, 0 being the lowest; None where the backbone has no stack.
    runs : tuple of LinearRun
        In the order in which they ran.
    """

    number: int | None
    runs: tuple[LinearRun, ...]

    def ending(self, suffix: str, owner: str) -> LinearRun:
        """Return the one linear layer whose name in the layer is, or ends in, a text.

        Parameters
        ----------
        suffix : str
            Name, or parts of it from the end, such as ``"output.dense"``.
        owner : str
            The option that it comes from, for errors.

        Raises
        ------
        IncompatibleComponentsError
            If there is none, or more than one.
        """
        by_inner = {run.inner: run for run in self.runs}
        found = [suffix] if suffix in by_inner else [inner for inner in by_inner if inner.endswith(f".{suffix}")]
        if len(found) == 1:
            return by_inner[found[0]]
        what = f"ends in {suffix!r}" if not found else f"alone ends in {suffix!r} ({', '.join(found)} do)"
        raise IncompatibleComponentsError(
            f"{owner}: no linear layer's name {what}.{did_you_mean(suffix, by_inner)} "
            f"A layer of this backbone runs: {', '.join(by_inner)}."
        )


@dataclass(frozen=True)
class LayerSites:
    """Where the two halves of a transformer layer begin and end.

    Parameters
    ----------
    attention_output : LinearRun
        The last linear layer of attention; its output is added to the residual stream.
    ffn_input : LinearRun
        The first linear layer of the feed-forward network.
    ffn_output : LinearRun
        The last one; its output is added to the residual stream.
    """

    attention_output: LinearRun
    ffn_input: LinearRun
    ffn_output: LinearRun


def find_layer_sites(layer: LayerRuns, hidden_size: int, remedy: str) -> LayerSites:
    """Tell from the order of its linear layers where attention and feed-forward network of a layer end.

    Attention's output is the last linear layer that belongs to attention, and the feed-forward network is what runs
    after it.

    Parameters
    ----------
    layer : LayerRuns
    hidden_size : int
        Width of the residual stream, which both outputs must have.
    remedy : str
        What to do where they cannot be told, for the error.

    Raises
    ------
    IncompatibleComponentsError
        If the layer does not run attention and then a feed-forward network.
    """
    attention = [index for index, run in enumerate(layer.runs) if run.in_attention]
    after = layer.runs[attention[-1] + 1 :] if attention else ()
    if after:
        sites = LayerSites(layer.runs[attention[-1]], after[0], after[-1])
        if sites.attention_output.n_out == sites.ffn_output.n_out == hidden_size == sites.ffn_input.n_in:
            return sites
    order = ", ".join(f"{run.inner} ({run.n_in} to {run.n_out})" for run in layer.runs) or "no linear layer"
    raise IncompatibleComponentsError(
        "The outputs of attention and feed-forward network cannot be told from the linear layers that a layer of this "
        f"backbone runs: {order}. {remedy}"
    )


def layer_runs(backbone: Backbone) -> tuple[LayerRuns, ...]:
    """Run a backbone over two short texts and return what each of its layers ran, from the lowest up.

    Linear layers are those of torch, the transposed ones of GPT-2, quantised ones, and what stands in the place of one
    (a LoRA layer): of nested ones the outermost counts. Where the backbone has no stack, because its layers share
    weights (ALBERT), a layer is what holds an attention module.

    Parameters
    ----------
    backbone : Backbone
        Loaded; nothing of it is changed.
    """
    runs = _record(backbone)
    layers = backbone.layers()
    if not layers:
        homes = {home: None for run in runs if (home := _home_of_attention(run.name)) is not None}
        return tuple(LayerRuns(None, _inside(runs, home)) for home in homes)
    names = {id(module): name for name, module in backbone.model.named_modules()}
    return tuple(LayerRuns(number, _inside(runs, names[id(layer)])) for number, layer in enumerate(layers))


def _home_of_attention(name: str) -> str | None:
    """Return the name of the module that holds the attention module that a linear layer belongs to."""
    parts = name.split(".")
    where = next((index for index, part in enumerate(parts) if _IN_ATTENTION.search(part)), None)
    return None if where is None else ".".join(parts[:where])


def _inside(runs: list[LinearRun], home: str) -> tuple[LinearRun, ...]:
    """Return the runs inside of a module, with their names in it."""
    prefix = f"{home}." if home else ""
    return tuple(
        LinearRun(run.name, run.name.removeprefix(prefix), run.n_in, run.n_out)
        for run in runs
        if run.name.startswith(prefix)
    )


def _record(backbone: Backbone) -> list[LinearRun]:
    """Return all calls of linear layers in a run over two short texts."""
    runs: list[LinearRun] = []
    batch = backbone.example_batch().to(next(backbone.model.parameters()).device)
    with _hooks(backbone.model, runs), torch.no_grad():
        backbone.token_states(batch)
    return runs


@contextmanager
def _hooks(model: nn.Module, runs: list[LinearRun]) -> Iterator[None]:
    """Note the calls of linear layers while the context is open."""
    handles = [module.register_forward_hook(_noting(name, runs)) for name, module in _outermost_linears(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _noting(name: str, runs: list[LinearRun]) -> Callable[[nn.Module, Any, Tensor], None]:
    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        runs.append(LinearRun(name, name, inputs[0].shape[-1], output.shape[-1]))

    return note


def _outermost_linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield linear layers by name, but none that is part of another."""
    last = None
    for name, module in model.named_modules():
        if last is not None and name.startswith(f"{last}."):
            continue
        # Whatever takes a layer's place keeps it as base_layer, in peft and here.
        sizes = hasattr(module, "in_features") and hasattr(module, "out_features")
        if sizes or hasattr(module, "base_layer") or is_conv1d(module):
            last = name
            yield name, module
