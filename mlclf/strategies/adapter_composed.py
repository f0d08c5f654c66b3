"""Adapters composed of frozen adapters of saved models: a new one stacked on top, or attention over their outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mlclf.strategies.adapter_layers import Activation, Bottleneck

_SOURCE = re.compile(r"sources\.(\d+)\.(down|up)\.(weight|bias)")


class ComposedAdapter(nn.Module):
    """Base of adapters that hold frozen ones.

    Parameters
    ----------
    activation : {"relu", "gelu", "silu", "tanh"}
        Nonlinearity of the sources.
    scale : float
        Factor of what they put out.

    Attributes
    ----------
    sources : nn.ModuleList
        Bottlenecks that do not learn; empty until they are read from saved models.
    """

    def __init__(self, *, activation: Activation, scale: float) -> None:
        super().__init__()
        self.sources = nn.ModuleList()
        self._activation, self._scale = activation, scale

    def take_sources(self, tensors: Sequence[Mapping[str, Tensor]]) -> None:
        """Put frozen adapters in.

        Parameters
        ----------
        tensors : sequence of mapping of str to Tensor
            ``down.weight``, ``down.bias``, ``up.weight`` and ``up.bias`` of each; their shapes are those of the
            adapters.
        """
        device = next(self.parameters()).device
        self.sources = nn.ModuleList()
        for own in tensors:
            width, n_in = own["down.weight"].shape
            source = Bottleneck(n_in, own["up.weight"].shape[0], width, activation=self._activation, scale=self._scale)
            source.load_state_dict(dict(own))
            self.sources.append(source.to(device).requires_grad_(False).train(self.training))

    def take_saved(self, state: Mapping[str, Tensor]) -> None:
        """Make room for the frozen adapters among saved tensors, and put them in.

        Parameters
        ----------
        state : mapping of str to Tensor
            Saved tensors of this adapter, by name in it.
        """
        found: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if match := _SOURCE.fullmatch(name):
                found.setdefault(int(match[1]), {})[f"{match[2]}.{match[3]}"] = tensor
        whole = [found[number] for number in sorted(found) if len(found[number]) == 4]
        self.take_sources(whole)


class StackedAdapter(ComposedAdapter):
    """Frozen adapters one after the other, and a new one that reads what they make of the states.

    Parameters
    ----------
    top : Bottleneck
        The adapter that learns.
    activation : {"relu", "gelu", "silu", "tanh"}
        Nonlinearity of the sources.
    scale : float
        Factor of what they put out.

    References
    ----------
    Pfeiffer et al. (2020), "MAD-X: An Adapter-Based Framework for Multi-Task Cross-Lingual Transfer",
    arXiv:2005.00052: a task adapter over a language adapter.

    Examples
    --------
    >>> import torch
    >>> StackedAdapter(Bottleneck(8, 8, 2), activation="relu", scale=1.0)(torch.ones(1, 3, 8)).abs().sum().item()
    0.0
    """

    def __init__(self, top: Bottleneck, *, activation: Activation, scale: float) -> None:
        super().__init__(activation=activation, scale=scale)
        self.top = top

    def forward(self, states: Tensor) -> Tensor:
        """Return what all of them add, shape (..., hidden)."""
        added = torch.zeros_like(states)
        for adapter in (*self.sources, self.top):
            added = added + adapter(states + added).to(states.dtype)
        return added


class FusedAdapter(ComposedAdapter):
    """Attention over the outputs of frozen adapters: each token chooses among them.

    The states ask (query), each source's output answers (key) and is taken (value), weighted by the softmax of their
    products. The value matrix starts at the identity.

    Parameters
    ----------
    hidden_size : int
        Size of a token state.
    activation : {"relu", "gelu", "silu", "tanh"}
        Nonlinearity of the sources.
    scale : float
        Factor of what they put out.

    References
    ----------
    Pfeiffer et al. (2021), "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", arXiv:2005.00247.

    Examples
    --------
    >>> fused = FusedAdapter(8, activation="relu", scale=1.0)
    >>> fused.distance().item()
    0.0
    """

    def __init__(self, hidden_size: int, *, activation: Activation, scale: float) -> None:
        super().__init__(activation=activation, scale=scale)
        self.query, self.key = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)
        for linear in (self.query, self.key):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        nn.init.eye_(self.value.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Return what is to be added to the states, shape (..., hidden)."""
        if not torch.is_autocast_enabled(states.device.type):
            states = states.to(self.query.weight.dtype)
        outputs = torch.stack([states + source(states).to(states.dtype) for source in self.sources], dim=-2)
        scores = torch.matmul(self.key(outputs), self.query(states).unsqueeze(-1)).squeeze(-1)
        weights = scores.float().softmax(dim=-1).to(states.dtype)
        fused: Tensor = (weights.unsqueeze(-1) * self.value(outputs).to(states.dtype)).sum(dim=-2)
        return fused - states

    def distance(self) -> Tensor:
        """Return the squared distance of the value matrix from the identity."""
        weight = self.value.weight
        identity = torch.eye(len(weight), device=weight.device, dtype=weight.dtype)
        distance: Tensor = (weight - identity).square().sum()
        return distance
