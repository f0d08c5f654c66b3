"""From names or options to a network: components resolved, checked against each other, loaded and joined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mlclf.chaining.options import StrategyChoice
from mlclf.chaining.strategy import resolve_strategy
from mlclf.interfaces import Backbone, LabelStatistics, Strategy
from mlclf.matching import check_loaded, check_parts
from mlclf.network import MultiLabelNetwork
from mlclf.options import Options
from mlclf.parts import Parts
from mlclf.plugins import resolve

Component = str | Options


def resolve_parts(backbone: Component, strategy: StrategyChoice, head: Component) -> Parts:
    """Find the three components and check their options and that they fit together.

    Nothing is loaded. Several strategies in a list become a chain.

    Raises
    ------
    UnknownComponentError, MissingPluginError, PluginLoadError
        If a component cannot be found.
    OptionsError
        If an option breaks its rule.
    IncompatibleComponentsError
        If the components do not fit together.
    """
    _, backbone_class, backbone_options = resolve("backbone", backbone)
    strategy_class, strategy_options = resolve_strategy(strategy)
    _, head_class, head_options = resolve("head", head)
    parts = Parts(
        backbone=backbone_options.validated(),
        strategy=strategy_options,
        head=head_options.validated(),
        backbone_class=backbone_class,
        strategy_class=strategy_class,
        head_class=head_class,
    )
    check_parts(parts)
    return parts


def build_network(
    parts: Parts,
    statistics: LabelStatistics,
    *,
    folder: Path | None = None,
    read_weights: bool = True,
    backbone: Backbone | None = None,
    device: torch.device | None = None,
) -> tuple[MultiLabelNetwork, Strategy]:
    """Load the backbone, let the strategy adapt it, and bind the head.

    Parameters
    ----------
    parts : Parts
    statistics : LabelStatistics
        Labels and their counts.
    folder : Path or None
        Folder with the backbone's files; None loads from where the options say.
    read_weights : bool
        False builds the architecture only, for weights that are put in afterwards.
    backbone : Backbone or None
        Loaded already and not adapted; None loads one.
    device : torch.device or None
        Where the network will stand, to quantise weights there. It is not put there.

    Returns
    -------
    network : MultiLabelNetwork
    strategy : Strategy
        Which has adapted the network's backbone.
    """
    strategy, head = parts.strategy_class(parts.strategy), parts.head_class(parts.head)
    head.check(statistics)
    if backbone is None:
        backbone = parts.backbone_class(parts.backbone)
        request = replace(
            strategy.load_request(), weights=read_weights, vocabulary=head.capabilities.vocabulary, device=device
        )
        backbone.load(request, folder)
    check_loaded(parts, strategy, backbone)
    strategy.adapt(backbone)
    head.bind(backbone, statistics)
    return MultiLabelNetwork(backbone, head), strategy
