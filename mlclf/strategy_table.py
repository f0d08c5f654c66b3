"""Strategy table: what each registered strategy needs, costs and can do, in general or on one backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlclf.assembly import Component, resolve_parts
from mlclf.chaining.options import StrategyChoice
from mlclf.exceptions import MlclfError
from mlclf.interfaces import Backbone, LoadRequest, Strategy
from mlclf.matching import check_loaded
from mlclf.options import Options
from mlclf.parts import Parts
from mlclf.plugins import component_specs, resolve
from mlclf.strategies.auto import AutoOptions

# The head that strategies are tried with: it goes with every family of backbones, and takes no part in the figures.
_HEAD = "bce"


@dataclass(frozen=True)
class StrategyRow:
    """One strategy, with its default options.

    Parameters
    ----------
    name : str
    summary : str
        What it does.
    typical_use : str
        When to take it.
    problem : str or None
        Why it cannot be used: its classes cannot be imported, or it does not go with the backbone.
    merge : {"exact", "lossy", "no"} or None
        Whether it merges into plain weights; None where its classes cannot be imported.
    export : bool or None
        Whether its models can be exported to ONNX, from this backbone where one is given.
    latency : str
        What it costs at prediction.
    backbone_rate, head_rate : float or None
        Default peak learning rates, on the backbone where one is given; None where nothing of the backbone learns.
    n_trainable : int or None
        Parameters that learn in the backbone, without the head; None without a backbone.
    share : float or None
        The same as a share of the backbone's parameters.
    """

    name: str
    summary: str
    typical_use: str = ""
    problem: str | None = None
    merge: str | None = None
    export: bool | None = None
    latency: str = ""
    backbone_rate: float | None = None
    head_rate: float | None = None
    n_trainable: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class StrategyTable:
    """All registered strategies.

    Parameters
    ----------
    rows : tuple of StrategyRow
        In the order of the registry.
    backbone : str or None
        Name of the backbone that they were tried on.
    n_parameters : int or None
        Its parameters.
    """

    rows: tuple[StrategyRow, ...]
    backbone: str | None = None
    n_parameters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "backbone": self.backbone,
            "n_parameters": self.n_parameters,
            "strategies": [asdict(row) for row in self.rows],
        }


def declared_table() -> StrategyTable:
    """Return what the strategies' classes say about themselves; no backbone is needed.

    Returns
    -------
    StrategyTable
        Without figures that depend on a backbone.

    Examples
    --------
    >>> {row.name: row.merge for row in declared_table().rows}["lora"]
    'exact'
    """
    return StrategyTable(tuple(_declared(spec.name, spec.summary) for spec in component_specs("strategy")))


def strategy_table(backbone: Component) -> StrategyTable:
    """Return what the strategies are on one backbone: each is tried on a copy of it.

    The backbone is loaded once for each way of loading that strategies ask for: one for nearly all of them, and one
    of its own for a strategy that quantises.

    Parameters
    ----------
    backbone : str or Options

    Returns
    -------
    StrategyTable

    Raises
    ------
    OptionsError, PluginError
        If the backbone is not known or an option breaks its rule.
    BackboneLoadError
        If it cannot be loaded.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf import BertOptions
    >>> from mlclf.testing import tiny_encoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = strategy_table(BertOptions(model=str(tiny_encoder("bert", folder))))
    >>> {row.name: row.share for row in table.rows}["head-only"]
    0.0
    """
    _, kind, options = resolve("backbone", backbone)
    loader = Loader(kind, options.validated())
    plain = loader.loaded(LoadRequest())
    n_parameters = sum(parameter.numel() for parameter in plain.model.parameters())
    rows = tuple(_tried(_scaled(row, plain), loader, n_parameters) for row in declared_table().rows)
    return StrategyTable(rows, backbone=options.component, n_parameters=n_parameters)


def refusals(backbone: Options, pairs: Iterable[tuple[StrategyChoice, Component]]) -> list[str | None]:
    """Say of pairs of strategy and head why they do not go with a backbone, None where they do; it is loaded for it.

    Strategy ``auto`` is left alone: what it will stand for depends on rows.

    Raises
    ------
    BackboneLoadError
        If the backbone cannot be loaded.
    """
    loader = Loader(resolve("backbone", backbone)[1], backbone)
    loader.loaded(LoadRequest())
    answers: list[str | None] = []
    for strategy, head in pairs:
        try:
            parts = resolve_parts(backbone, strategy, head)
            if not isinstance(parts.strategy, AutoOptions):
                loader.adapted(parts)
        except Exception as error:
            answers.append(reason(error))
        else:
            answers.append(None)
    return answers


class Loader:
    """Loads a backbone as strategies ask for it, and lets them adapt copies.

    The plainly loaded one is kept. Others are loaded when they are asked for, and not kept, so that no more than
    two stand in memory at once.

    Parameters
    ----------
    kind : type of Backbone
    options : Options
        Of the backbone.
    """

    def __init__(self, kind: type[Backbone], options: Options) -> None:
        self._kind, self.options = kind, options
        self._plain: Backbone | None = None

    def loaded(self, request: LoadRequest) -> Backbone:
        """Return the backbone loaded in a way; nobody may change it."""
        if request != LoadRequest():
            return self._load(request)
        if self._plain is None:
            self._plain = self._load(request)
        return self._plain

    def adapted(self, parts: Parts) -> tuple[Backbone, Strategy]:
        """Return a backbone that a strategy has adapted."""
        strategy, head = parts.strategy_class(parts.strategy), parts.head_class(parts.head)
        loaded = self.loaded(replace(strategy.load_request(), vocabulary=head.capabilities.vocabulary))
        check_loaded(parts, strategy, loaded)
        backbone = copy.deepcopy(loaded) if loaded is self._plain else loaded
        strategy.adapt(backbone)
        return backbone, strategy

    def _load(self, request: LoadRequest) -> Backbone:
        backbone = self._kind(self.options)
        backbone.load(request)
        return backbone


def n_trainable(backbone: Backbone) -> int:
    """Return how many parameters learn in an adapted backbone, without pooling and head."""
    return sum(parameter.numel() for parameter in backbone.model.parameters() if parameter.requires_grad)


def reason(error: Exception) -> str:
    """Return why something cannot be used: an error of mlclf as it is, any other with its class."""
    return str(error) if isinstance(error, MlclfError) else f"{type(error).__name__}: {error}"


def percent(share: float) -> str:
    """Return a share with the digits that tell small ones apart.

    Examples
    --------
    >>> percent(0.02941), percent(0.00012), percent(1.0), percent(0.0)
    ('2.9 %', '0.012 %', '100 %', '0 %')
    """
    return "100 %" if share > 0.995 else f"{100 * share:.2g} %"


def _scaled(row: StrategyRow, backbone: Backbone) -> StrategyRow:
    """Return a row with the rate at which training would start on a backbone."""
    rate = row.backbone_rate
    return row if rate is None else replace(row, backbone_rate=rate * backbone.learning_rate_scale)


def _declared(name: str, summary: str) -> StrategyRow:
    """Return what a strategy's class says; a plugin that fails gives a row with its reason, not an error."""
    row = StrategyRow(name, summary)
    try:
        _, kind, options = resolve("strategy", name)
        strategy = kind(options)
        capabilities, rates = strategy.capabilities, strategy.learning_rates
    except Exception as error:
        return replace(row, problem=reason(error))
    return replace(
        row,
        typical_use=strategy.typical_use,
        merge=capabilities.merge,
        export=capabilities.export,
        latency=strategy.latency,
        backbone_rate=None if capabilities.changes == "nothing" else rates.backbone,
        head_rate=rates.head,
    )


def _tried(row: StrategyRow, loader: Loader, n_parameters: int) -> StrategyRow:
    """Add what is found when a strategy adapts a copy of the backbone."""
    if row.problem is not None:
        return row
    try:
        parts = resolve_parts(loader.options, row.name, _HEAD)
        backbone, _ = loader.adapted(parts)
    except Exception as error:
        return replace(row, problem=reason(error))
    learning = n_trainable(backbone)
    return replace(
        row,
        export=bool(row.export) and parts.backbone_class.exportable,
        n_trainable=learning,
        share=learning / n_parameters,
    )
