"""Running a part of an encoder: stop before a layer, or start at one from states computed earlier.

No architecture is named here. A partial run calls a *view* of the model: copies of the few modules from the model
down to its layer stack, which share every parameter and every layer with the original but hold another stack.
Nothing of the original is changed, so that an error in between or another thread cannot meet a half-changed model.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.exceptions import IncompatibleComponentsError

_log = logging.getLogger(__name__)


class _Reached(Exception):
    """Carries the states that were about to enter a layer."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class _StandIn(nn.Module):
    """Takes a layer's place, with the attributes that the loop over the stack may read from a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, or it would be registered as a submodule
        if hasattr(layer, "attention_type"):  # ModernBERT chooses mask and rotation by it
            self.attention_type = layer.attention_type


class _Stop(_StandIn):
    """Ends a run instead of running its layer."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        raise _Reached(hidden_states)


class _Skip(_StandIn):
    """Passes states on in the form in which its layer returns them.

    The layers above keep their numbers, by which some models choose mask and rotation (Gemma's sliding windows).
    """

    def __init__(self, layer: nn.Module, n_outputs: int) -> None:
        super().__init__(layer)
        self._n_outputs = n_outputs

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states, *[None] * (self._n_outputs - 1)) if self._n_outputs else hidden_states


class _Count(_StandIn):
    """Runs its layer, notes in which form it returns states, and ends the run."""

    n_outputs = 0

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = self._layer[0](hidden_states, *args, **kwargs)
        self.n_outputs = len(output) if isinstance(output, tuple) else 0
        raise _Reached(hidden_states)


class _Start(_StandIn):
    """Runs its layer on given states, whatever came from below."""

    def __init__(self, layer: nn.Module, states: Tensor) -> None:
        super().__init__(layer)
        self._states = states

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._layer[0](self._states, *args, **kwargs)


@dataclass(frozen=True)
class LayerStack:
    """Where the layers of a model are, and what the parameters outside of them belong to.

    Parameters
    ----------
    name : str
        Name of the module list in the model.
    n_layers : int
        Its length.
    shared : frozenset of str
        Parameters that layers use but the embeddings do not (relative positions of DeBERTa and MPNet).
    after : frozenset of str
        Parameters used only after the last layer (ModernBERT's final norm).
    n_outputs : int
        Length of the tuple that a layer returns, 0 where it returns states alone.
    """

    name: str
    n_layers: int
    shared: frozenset[str]
    after: frozenset[str]
    n_outputs: int = 0

    @classmethod
    def find(cls, model: nn.Module, n_layers: int, inputs: dict[str, Tensor]) -> LayerStack | None:
        """Return the stack of a freshly loaded model, or None where its layers cannot be run one part at a time.

        Parameters
        ----------
        model : nn.Module
            A transformers encoder in evaluation mode, all of whose parameters require gradients.
        n_layers : int
            Layers that its configuration promises.
        inputs : dict of str to Tensor
            Any valid input, to try a partial run on and to see which parameters take part.
        """
        name = _module_list(model, n_layers)
        if name is None:
            return None
        candidate = cls(name, n_layers, frozenset(), frozenset(), _count_outputs(model, name, inputs))
        if not candidate._reproduces(model, inputs):
            return None
        with torch.enable_grad():
            embedding = _names_behind(model, candidate.states_after(model, 0, inputs))
            below_last = _names_behind(model, candidate.states_after(model, n_layers - 1, inputs))
            used = _names_behind(model, candidate.states_after(model, n_layers, inputs))
        in_layers = {f"{name}.{inner}" for inner, _ in model.get_submodule(name).named_parameters()}
        outside = used - in_layers
        # With one layer nothing tells what the layer uses from what comes after it; both belong to the whole.
        below = below_last if n_layers > 1 else outside
        return replace(candidate, shared=frozenset(outside & below - embedding), after=frozenset(outside - below))

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """Return the layers from the text upwards."""
        return list(model.get_submodule(self.name).children())

    def states_after(self, model: nn.Module, n_layers: int, inputs: dict[str, Tensor]) -> Tensor:
        """Return the states after some layers, which are the last hidden state after all of them."""
        if n_layers == self.n_layers:
            last: Tensor = model(**inputs).last_hidden_state
            return last
        layers = self.layers(model)
        try:
            _view(model, self.name, [*layers[:n_layers], _Stop(layers[n_layers])])(**inputs)
        except _Reached as reached:
            return reached.states
        raise IncompatibleComponentsError(f"{type(model).__name__} did not run layer {n_layers} of {self.name!r}.")

    def run_from(self, model: nn.Module, first_layer: int, states: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Return the last hidden state of a run that starts at a layer with given states.

        Parameters
        ----------
        model : nn.Module
            The model in which the stack was found.
        first_layer : int
            Number of the first layer to run, at least 1; the length of the stack runs nothing.
        states : Tensor, shape (n_rows, length, hidden)
            What :meth:`states_after` gave for as many layers.
        inputs : dict of str to Tensor
            Keyword arguments of the model.
        """
        if first_layer == self.n_layers:
            return states
        layers = self.layers(model)
        skipped = [_Skip(layer, self.n_outputs) for layer in layers[:first_layer]]
        started = [*skipped, _Start(layers[first_layer], states), *layers[first_layer + 1 :]]
        output: Tensor = _view(model, self.name, started)(**inputs).last_hidden_state
        return output

    def lower_parameters(self, model: nn.Module, n_layers: int) -> Iterator[nn.Parameter]:
        """Yield the parameters that the states after ``n_layers`` layers depend on."""
        upper = {id(p) for layer in self.layers(model)[n_layers:] for p in layer.parameters()}
        excluded = (self.after if n_layers < self.n_layers else frozenset()) | (
            self.shared if n_layers == 0 else frozenset()
        )
        for name, parameter in model.named_parameters():
            if id(parameter) not in upper and name not in excluded:
                yield parameter

    def _reproduces(self, model: nn.Module, inputs: dict[str, Tensor]) -> bool:
        """Say whether running the model in two parts gives what running it whole gives."""
        middle = max(1, self.n_layers // 2)
        with torch.no_grad():
            whole = self.states_after(model, self.n_layers, inputs)
            try:
                parts = self.run_from(model, middle, self.states_after(model, middle, inputs), inputs)
            except (IncompatibleComponentsError, AttributeError, TypeError, RuntimeError) as error:
                _log.warning("The layers of %s cannot be run in parts: %s", type(model).__name__, error)
                return False
        return whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-3, atol=1e-4)


def unused_parameters(model: nn.Module, inputs: dict[str, Tensor]) -> frozenset[str]:
    """Return the names of parameters that take no part in computing the last hidden state."""
    with torch.enable_grad():
        used = _names_behind(model, model(**inputs).last_hidden_state)
    return frozenset(name for name, p in model.named_parameters() if p.requires_grad) - used


def _module_list(model: nn.Module, n_layers: int) -> str | None:
    """Return the name of the outermost module list of ``n_layers`` different layers, or None."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers == len(set(module)):
            return str(name)
    return None


def _count_outputs(model: nn.Module, name: str, inputs: dict[str, Tensor]) -> int:
    """Return the length of the tuple that the layers of a stack return, 0 where they return states alone."""
    first, *rest = model.get_submodule(name).children()
    counter = _Count(first)
    with suppress(_Reached), torch.no_grad():
        _view(model, name, [counter, *rest])(**inputs)
    return counter.n_outputs


def _names_behind(model: nn.Module, states: Tensor) -> set[str]:
    """Return the names of the parameters in the autograd graph of ``states``."""
    seen: set[Any] = set()
    found: set[int] = set()
    waiting: list[Any] = [states.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


def _view(model: nn.Module, stack: str, layers: Sequence[nn.Module]) -> nn.Module:
    """Return a copy of ``model`` that shares everything but has another stack."""
    root = parent = _shallow(model)
    *path, last = stack.split(".")
    for name in path:
        child = _shallow(parent.get_submodule(name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(layers)
    return root


def _shallow(module: nn.Module) -> nn.Module:
    """Return a copy that shares parameters, buffers and children."""
    if "forward" in vars(module):
        raise IncompatibleComponentsError(
            f"The forward method of {type(module).__name__} was replaced on the object, so that its layers cannot be "
            "run one part at a time. Choose a strategy without cached lower layers, or remove the replacement."
        )
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
