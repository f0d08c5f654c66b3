"""Where bottleneck adapters stand in a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from mlclf.exceptions import UnsuitableComponentError
from mlclf.interfaces import Backbone
from mlclf.strategies.adapter_layers import insert_after, insert_parallel
from mlclf.strategies.linear_runs import LayerRuns, LinearRun, find_layer_sites, layer_runs
from mlclf.strategies.lora_targets import Layers, chosen_layers

AdapterKind = Literal["houlsby", "pfeiffer", "parallel"]
_OWNER = "AdapterOptions"
_REMEDY = (
    f"Name the linear layers by {_OWNER}(sites=(...)): ends of the names of those that an adapter follows, or with "
    "kind='parallel' first that whose input it reads and then that to whose output it adds."
)


@dataclass(frozen=True)
class AdapterSite:
    """A place for one adapter.

    Parameters
    ----------
    layer : int or None
        Number of the layer, 0 being the lowest; None where the backbone has no stack.
    reads : LinearRun or None
        The linear layer whose input the adapter reads; None where it reads the output of ``writes``.
    writes : LinearRun
        The linear layer to whose output it adds.
    """

    layer: int | None
    reads: LinearRun | None
    writes: LinearRun

    @property
    def n_in(self) -> int:
        """Width of the states that the adapter reads."""
        return self.writes.n_out if self.reads is None else self.reads.n_in

    @property
    def n_out(self) -> int:
        """Width of what it adds to."""
        return self.writes.n_out

    def insert(self, model: nn.Module, adapter: nn.Module) -> None:
        """Put an adapter here: a module from ``(..., n_in)`` to ``(..., n_out)``."""
        if self.reads is None:
            insert_after(model, self.writes.name, adapter)
        else:
            insert_parallel(model, self.reads.name, self.writes.name, adapter)


def find_adapter_sites(
    backbone: Backbone, kind: AdapterKind, layers: Layers = "all", sites: tuple[str, ...] | None = None
) -> tuple[AdapterSite, ...]:
    """Return where adapters are to stand, from the lowest layer up.

    Parameters
    ----------
    backbone : Backbone
        Loaded; weights may already be adapted (LoRA), but no adapters be in it.
    kind : {"houlsby", "pfeiffer", "parallel"}
        Behind attention and feed-forward network, behind the feed-forward network, or beside it.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest.
    sites : tuple of str or None
        Ends of names of linear layers instead of those that are found.

    Raises
    ------
    UnsuitableComponentError
        If there is no such layer, or its sites cannot be told.
    """
    chosen = set(chosen_layers(backbone.n_layers, layers, owner=_OWNER))
    wanted = [layer for layer in layer_runs(backbone) if layer.number is None or layer.number in chosen]
    if not wanted:
        raise UnsuitableComponentError(
            f"Strategy 'adapter' found no layers with attention in backbone {backbone.options.component!r}."
        )
    if sites is not None:
        return tuple(site for layer in wanted for site in _named(layer, kind, sites))
    return tuple(site for layer in wanted for site in _found(layer, kind, backbone.hidden_size))


def _found(layer: LayerRuns, kind: AdapterKind, hidden_size: int) -> list[AdapterSite]:
    """Return the sites of a layer by the order of its linear layers."""
    found = find_layer_sites(layer, hidden_size, _REMEDY)
    if kind == "parallel":
        return [AdapterSite(layer.number, found.ffn_input, found.ffn_output)]
    outputs = [found.attention_output, found.ffn_output] if kind == "houlsby" else [found.ffn_output]
    return [AdapterSite(layer.number, None, output) for output in outputs]


def _named(layer: LayerRuns, kind: AdapterKind, suffixes: tuple[str, ...]) -> list[AdapterSite]:
    """Return the sites of a layer by the ends of names."""
    runs = [layer.ending(suffix, f"{_OWNER}(sites={suffixes!r})") for suffix in suffixes]
    if kind == "parallel":
        return [AdapterSite(layer.number, runs[0], runs[1])]
    return [AdapterSite(layer.number, None, run) for run in runs]
