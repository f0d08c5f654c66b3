"""Strategy ``adapter``: small networks with a bottleneck between frozen layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from mlclf.interfaces import Backbone, Batch, LearningRates, RowUpdate, Strategy, StrategyCapabilities
from mlclf.options import Options
from mlclf.strategies.adapter_composed import FusedAdapter, StackedAdapter
from mlclf.strategies.adapter_layers import Activation, Bottleneck, adapted_layers, remove_adapters, row_updates
from mlclf.strategies.adapter_sites import AdapterKind, AdapterSite, find_adapter_sites
from mlclf.strategies.adapter_start import AdapterStart
from mlclf.strategies.lora_targets import Layers, check_layers, chosen_layers
from mlclf.strategies.rates import RateOptions

# He et al. (2022), section 4.5: a parallel adapter gains from a scale, and 4 was theirs.
_PARALLEL_SCALE = 4.0
# The paper's rate of fusion layers (section 4.2), whose matrices are as wide as the states; the head's is that of all
# strategies that train the backbone.
_FUSION_RATES = LearningRates(backbone=5e-5, head=5e-3)


class AdapterOptions(RateOptions):
    """Options of the strategy ``adapter``.

    Parameters
    ----------
    kind : {"houlsby", "pfeiffer", "parallel"}
        Where adapters stand in a layer: behind attention and behind the feed-forward network, behind the feed-forward
        network only, or beside it. Each is added before the residual connection.
    reduction : int
        Hidden size of the backbone divided by the width of an adapter.
    bottleneck : int or None
        Width of an adapter, instead of ``reduction``.
    activation : {"relu", "gelu", "silu", "tanh"}
        Nonlinearity of the adapters.
    dropout : float
        Dropout inside the adapters.
    scale : float or None
        Factor of what adapters add; None takes 4 for parallel ones and 1 for the others.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest. What lies below the lowest
        one stays constant and is computed once.
    sites : tuple of str or None
        Ends of the names of the linear layers that an adapter follows, such as ``("output.dense",)``; with
        ``kind="parallel"`` the one whose input it reads and the one to whose output it adds. None finds them.
    start : AdapterStart or None
        Adapters of saved models to build upon, by :func:`~mlclf.strategies.adapter_sources.stack_adapters` or
        :func:`~mlclf.strategies.adapter_sources.fuse_adapters`.
    learning_rate : float or None
        Peak rate of the adapters; None takes 1e-3.
    head_learning_rate : float or None
        Peak rate of head and pooling; None takes 5e-3.

    Examples
    --------
    >>> AdapterOptions(kind="houlsby", reduction=32).activation
    'relu'
    """

    component: ClassVar[str] = "adapter"

    kind: AdapterKind = "pfeiffer"
    reduction: int = Field(default=16, ge=1)
    bottleneck: int | None = Field(default=None, ge=1)
    activation: Activation = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    scale: float | None = Field(default=None, gt=0)
    layers: Layers = "all"
    sites: tuple[str, ...] | None = None
    start: AdapterStart | None = None

    @field_validator("layers", mode="before")
    @classmethod
    def _possible_layers(cls, value: Any) -> Any:
        return check_layers(value)

    @field_validator("sites")
    @classmethod
    def _as_many_sites_as_needed(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if value is None:
            return value
        if not value or not all(value):
            raise ValueError("must hold at least one end of a name, and no empty one")
        if info.data.get("kind") == "parallel" and len(value) != 2:
            raise ValueError("with kind='parallel' names two linear layers: first the one read, then the one added to")
        return value


class AdapterStrategy(Strategy):
    """Bottleneck adapters: the backbone is frozen, and small networks between its layers learn.

    An adapter is added to the output of a linear layer before dropout and residual connection. For
    ``kind="houlsby"`` that is the place of the paper; the adapters of Pfeiffer et al. see the residual stream too,
    which is added here after them.

    Parameters
    ----------
    options : AdapterOptions

    References
    ----------
    Houlsby et al. (2019), "Parameter-Efficient Transfer Learning for NLP", arXiv:1902.00751.
    Pfeiffer et al. (2021), "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", arXiv:2005.00247.
    He et al. (2022), "Towards a Unified View of Parameter-Efficient Transfer Learning", arXiv:2110.04366.

    Examples
    --------
    >>> AdapterStrategy(AdapterOptions()).learning_rates.backbone
    0.001
    """

    Options: ClassVar[type[Options]] = AdapterOptions
    capabilities = StrategyCapabilities(
        merge="no", quantised_base=True, changes="activations", detachable=True, chains=True, shares=True
    )
    typical_use = "several tasks over one backbone, stacked or fused"
    latency = "a few per cent"
    learning_rates = LearningRates(backbone=1e-3, head=5e-3)
    options: AdapterOptions

    def __init__(self, options: AdapterOptions) -> None:
        super().__init__(options)
        if options.start is not None and options.start.method == "fusion":
            self.learning_rates = _FUSION_RATES

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone whose sites cannot be told, and layers that it does not have."""
        self._sites(backbone)

    def adapt(self, backbone: Backbone) -> None:
        """Freeze the model and insert the adapters."""
        self.freeze(backbone)
        device = next(backbone.model.parameters()).device
        for site in self._sites(backbone):
            site.insert(backbone.model, self._adapter(site, backbone.hidden_size).to(device))

    def initialise(self, backbone: Backbone, batches: Iterable[Batch]) -> None:
        """Read the adapters of saved models, where the options name some."""
        if self.options.start is not None:
            from mlclf.strategies.adapter_sources import put_sources

            put_sources(backbone, self.options.start)

    def penalty(self, backbone: Backbone) -> Tensor | None:
        """Return what holds fusion's value matrices near the identity."""
        start = self.options.start
        if start is None or start.method != "fusion" or start.regularisation == 0:
            return None
        layers = adapted_layers(backbone.model).values()
        fused = [layer.adapter for layer in layers if isinstance(layer.adapter, FusedAdapter)]
        return start.regularisation * torch.stack([adapter.distance() for adapter in fused]).sum()

    def state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return the adapters that learn, and copies of those that they are composed with."""
        from mlclf.strategies.adapter_sources import saved_sources

        return super().state(backbone) | saved_sources(backbone)

    def load_state(self, backbone: Backbone, state: dict[str, Tensor]) -> None:
        """Put saved adapters into an adapted backbone."""
        from mlclf.strategies.adapter_sources import load_sources

        load_sources(backbone, state)
        super().load_state(backbone, state)

    def row_updates(self, backbone: Backbone) -> dict[str, RowUpdate]:
        """Return the adapters as functions of a layer's input and plain output."""
        return row_updates(backbone.model)

    def constant_layers(self, backbone: Backbone) -> int:
        """Return the number of layers below the lowest adapted one."""
        return min(chosen_layers(backbone.n_layers, self.options.layers), default=0)

    def detach(self, backbone: Backbone) -> None:
        """Remove the adapters: the model is again what was loaded, bit for bit."""
        remove_adapters(backbone.model)

    def _sites(self, backbone: Backbone) -> tuple[AdapterSite, ...]:
        return find_adapter_sites(backbone, self.options.kind, self.options.layers, self.options.sites)

    def _adapter(self, site: AdapterSite, hidden_size: int) -> nn.Module:
        """Return the adapter of one site: a bottleneck, or what frozen ones are put into later."""
        start = self.options.start
        if start is None:
            return self._bottleneck(site, hidden_size)
        activation, scale = self.options.activation, self.options.scale or 1.0
        if start.method == "fusion":
            return FusedAdapter(site.n_out, activation=activation, scale=scale)
        return StackedAdapter(self._bottleneck(site, hidden_size), activation=activation, scale=scale)

    def _bottleneck(self, site: AdapterSite, hidden_size: int) -> Bottleneck:
        """Return the adapter of one site."""
        default_scale = _PARALLEL_SCALE if self.options.kind == "parallel" else 1.0
        return Bottleneck(
            site.n_in,
            site.n_out,
            self.options.bottleneck or max(1, hidden_size // self.options.reduction),
            activation=self.options.activation,
            dropout=self.options.dropout,
            scale=self.options.scale or default_scale,
        )
