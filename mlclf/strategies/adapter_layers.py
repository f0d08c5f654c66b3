"""Bottleneck adapters as modules: put into a model beside its linear layers, and taken out again."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mlclf.interfaces import RowUpdate

Activation = Literal["relu", "gelu", "silu", "tanh"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(nn.Module):
    """One adapter: down to a narrow width, a nonlinearity, and up again.

    The upper matrix starts at zero, so that the output does, and a model begins unchanged.

    Parameters
    ----------
    n_in, n_out : int
        Width of the states that come in and of what goes out.
    width : int
        Width of the bottleneck.
    activation : {"relu", "gelu", "silu", "tanh"}
        The nonlinearity.
    dropout : float
        Dropout of the bottleneck in training.
    scale : float
        Factor of the output.

    References
    ----------
    Houlsby et al. (2019), "Parameter-Efficient Transfer Learning for NLP", arXiv:1902.00751.

    Examples
    --------
    >>> import torch
    >>> Bottleneck(8, 8, 2)(torch.ones(1, 3, 8)).abs().sum().item()
    0.0
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        width: int,
        *,
        activation: Activation = "relu",
        dropout: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.down = nn.Linear(n_in, width)
        self.activation = _ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(width, n_out)
        self.scale = scale
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return what is to be added, shape (..., n_out), in the arithmetic of the adapter or of autocast."""
        if not torch.is_autocast_enabled(states.device.type):
            states = states.to(self.down.weight.dtype)
        output: Tensor = self.up(self.dropout(self.activation(self.down(states))))
        return output if self.scale == 1.0 else output * self.scale


class AdaptedLayer(nn.Module):
    """A linear layer to whose output an adapter adds something that it computes from that output.

    Parameters
    ----------
    base_layer : nn.Module
        The linear layer, or what stands in its place (a LoRA layer).
    adapter : nn.Module
        Maps states to what is to be added to the output; a :class:`Bottleneck`, or a module composed of several.
    """

    def __init__(self, base_layer: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adapter = adapter

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return output and adapter's part together, in the type of the output."""
        output: Tensor = self.base_layer(states, *args, **kwargs)
        added: Tensor = self.adapter(self.read(output))
        return output + added.to(output.dtype)

    def read(self, output: Tensor) -> Tensor:
        """Return what the adapter reads, given the linear layer's output."""
        return output


class Relay:
    """Hands states from where they are read to where they are used, within one run of a model.

    Each thread has its own, as several may run one model at a time. Copies and pickles of a model begin empty: the
    states of a run are no part of it.
    """

    def __init__(self) -> None:
        self._held: dict[int, Tensor] = {}

    def put(self, states: Tensor) -> None:
        """Keep states until they are taken."""
        self._held[_thread()] = states

    def take(self) -> Tensor:
        """Return the states, and forget them."""
        return self._held.pop(_thread())

    def __deepcopy__(self, memo: dict[int, Any]) -> Relay:
        return Relay()

    def __reduce__(self) -> tuple[type[Relay], tuple[()]]:
        return Relay, ()


def _thread() -> int:
    # The compiler cannot trace a question to the operating system; compiled code runs under one key.
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class TappedLayer(nn.Module):
    """A linear layer whose input is kept for an adapter further up.

    Parameters
    ----------
    base_layer : nn.Module
        The linear layer, or what stands in its place.
    relay : Relay
        Shared with the :class:`ParallelLayer`.
    """

    def __init__(self, base_layer: nn.Module, relay: Relay) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.relay = relay

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output."""
        self.relay.put(states)
        output: Tensor = self.base_layer(states, *args, **kwargs)
        return output


class ParallelLayer(AdaptedLayer):
    """A linear layer to whose output an adapter adds something that it computes from states further down.

    Parameters
    ----------
    base_layer : nn.Module
        The linear layer, or what stands in its place.
    adapter : nn.Module
        As in :class:`AdaptedLayer`.
    relay : Relay
        Shared with the :class:`TappedLayer`.

    References
    ----------
    He et al. (2022), "Towards a Unified View of Parameter-Efficient Transfer Learning", arXiv:2110.04366.
    """

    def __init__(self, base_layer: nn.Module, adapter: nn.Module, relay: Relay) -> None:
        super().__init__(base_layer, adapter)
        self.relay = relay

    def read(self, output: Tensor) -> Tensor:
        """Return the states that went into the tapped layer."""
        return self.relay.take()


def insert_after(model: nn.Module, name: str, adapter: nn.Module) -> None:
    """Put an adapter behind a linear layer of a model.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    name : str
        Name of the linear layer.
    adapter : nn.Module
        Reads the layer's output.
    """
    base = model.get_submodule(name)
    model.set_submodule(name, AdaptedLayer(base, adapter).train(base.training))


def insert_parallel(model: nn.Module, reads: str, writes: str, adapter: nn.Module) -> None:
    """Put an adapter beside a part of a model that begins and ends with a linear layer.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    reads : str
        Name of the linear layer whose input the adapter reads.
    writes : str
        Name of the linear layer to whose output it adds, which runs later.
    adapter : nn.Module
        Reads the first layer's input.
    """
    relay = Relay()
    last, first = model.get_submodule(writes), model.get_submodule(reads)
    model.set_submodule(writes, ParallelLayer(last, adapter, relay).train(last.training))
    model.set_submodule(reads, TappedLayer(first, relay).train(first.training))


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLayer]:
    """Return the layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLayer)}


def remove_adapters(model: nn.Module) -> None:
    """Put the linear layers back to where adapters were inserted."""
    for name, module in reversed(list(model.named_modules())):
        if isinstance(module, AdaptedLayer | TappedLayer):
            model.set_submodule(name, module.base_layer)


def row_updates(model: nn.Module) -> dict[str, RowUpdate]:
    """Return by name of the linear layer what adapters do, given its input and plain output for some rows."""
    updates: dict[str, RowUpdate] = {}
    for name, module in model.named_modules():
        if isinstance(module, TappedLayer):
            updates[name] = partial(_tapped, module)
        elif isinstance(module, AdaptedLayer):
            updates[name] = partial(_added, module)
    return updates


def _tapped(layer: TappedLayer, states: Tensor, output: Tensor) -> Tensor:
    layer.relay.put(states)
    return output


def _added(layer: AdaptedLayer, states: Tensor, output: Tensor) -> Tensor:
    added: Tensor = layer.adapter(layer.read(output))
    return output + added.to(output.dtype)
