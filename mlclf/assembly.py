"""From names or options to a network: components resolved, checked against each other, loaded and joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mlclf.chaining.options import ChainOptions, StrategyChoice
from mlclf.chaining.strategy import resolve_strategy
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import (
    Backbone,
    Head,
    HeadCapabilities,
    LabelStatistics,
    Strategy,
    StrategyCapabilities,
)
from mlclf.network import MultiLabelNetwork
from mlclf.options import Options, TrainingOptions
from mlclf.plugins import resolve
from mlclf.plugins.spec import PART_KINDS, Kind

Component = str | Options


@dataclass(frozen=True)
class Parts:
    """The three components of a model: classes and checked options.

    Parameters
    ----------
    backbone, strategy, head : Options
        Checked options.
    backbone_class, strategy_class, head_class : type
        What is made with them.
    """

    backbone: Options
    strategy: Options
    head: Options
    backbone_class: type[Backbone]
    strategy_class: type[Strategy]
    head_class: type[Head]

    @property
    def names(self) -> dict[Kind, str]:
        """What each component is called in messages: its registered name, or those of a chain's strategies."""
        return {kind: " + ".join(names) for kind, names in self.components.items()}

    @property
    def components(self) -> dict[Kind, tuple[str, ...]]:
        """Registered name of each component; of a chain, those of its strategies."""
        return {
            kind: options.names if isinstance(options, ChainOptions) else (options.component,)
            for kind, options in self.options.items()
        }

    @property
    def options(self) -> dict[Kind, Options]:
        """Checked options of each component."""
        return {kind: getattr(self, kind) for kind in PART_KINDS}

    @property
    def strategy_capabilities(self) -> StrategyCapabilities:
        """What the strategy declares under its options."""
        return self.strategy_class(self.strategy).capabilities

    @property
    def head_capabilities(self) -> HeadCapabilities:
        """What the head declares under its options."""
        return self.head_class(self.head).capabilities


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


def check_parts(parts: Parts) -> None:
    """Check what the components declare about themselves.

    Raises
    ------
    IncompatibleComponentsError
        Naming the two components, the rule, and what to use instead.
    """
    family = parts.backbone_class.family
    side = getattr(parts.backbone, "padding_side", parts.backbone_class.padding_side)
    names = parts.names
    head = parts.head_capabilities
    declared: tuple[tuple[Kind, StrategyCapabilities | HeadCapabilities], ...] = (
        ("strategy", parts.strategy_capabilities),
        ("head", head),
    )
    for kind, capabilities in declared:
        if family not in capabilities.families:
            raise IncompatibleComponentsError(
                f"{kind.capitalize()} {names[kind]!r} works with backbones of the families "
                f"{', '.join(sorted(capabilities.families))}; backbone {names['backbone']!r} is of family {family!r}. "
                f"Choose another {kind} or backbone: 'mlclf plugins list' shows them all."
            )
        if capabilities.padding not in ("any", side):
            raise IncompatibleComponentsError(
                f"{kind.capitalize()} {names[kind]!r} needs padding on the {capabilities.padding}; "
                f"backbone {names['backbone']!r} pads on the {side}."
            )
    _check_reading(parts)
    _check_weight_type(parts)
    if getattr(parts.backbone, "window_stride", None) is not None and not head.windows:
        raise IncompatibleComponentsError(
            f"Head {names['head']!r} reads a text as a whole; window_stride of backbone {names['backbone']!r} splits "
            "it. Use window_stride=None."
        )


def _check_reading(parts: Parts) -> None:
    """Refuse what would read a head's own tokens in another way than the head says."""
    names, head = parts.names, parts.head_capabilities
    if not head.masks and not head.memory:
        return
    backbone = parts.backbone_class(parts.backbone)
    if head.masks and not backbone.takes_masks:
        raise IncompatibleComponentsError(
            f"Head {names['head']!r} says which tokens see each other; backbone {names['backbone']!r} takes no such "
            "masks. Use backbone='bert' or 'llm', or another head, such as 'bce'."
        )
    if head.memory and not backbone.remembers:
        raise IncompatibleComponentsError(
            f"Head {names['head']!r} reads on from what was read before; backbone {names['backbone']!r} remembers "
            "nothing. Use backbone='llm' with bidirectional=False, or another head, such as 'bce'."
        )
    if parts.strategy_capabilities.changes == "tokens":
        raise IncompatibleComponentsError(
            f"Head {names['head']!r} says which tokens see each other, and strategy {names['strategy']!r} adds tokens "
            "that it does not know of. Use a strategy without virtual tokens, such as 'lora', or another head, such as "
            "'bce'."
        )


def check_training(parts: Parts, training: TrainingOptions) -> None:
    """Check that the components allow what the training options ask for.

    Raises
    ------
    IncompatibleComponentsError
        If activations cannot be recomputed with this strategy, or nothing would learn.
    """
    check_learns(parts)
    if training.gradient_checkpointing and not parts.strategy_capabilities.gradient_checkpointing:
        raise IncompatibleComponentsError(
            f"Strategy {parts.names['strategy']!r} cannot be trained with recomputed activations. "
            "Use TrainingOptions(gradient_checkpointing=False), and a smaller batch_size where memory is short."
        )


def check_learns(parts: Parts) -> None:
    """Refuse to train where neither strategy nor head has anything that learns.

    Raises
    ------
    IncompatibleComponentsError
    """
    if parts.strategy_capabilities.changes == "nothing" and not parts.head_capabilities.learns:
        raise IncompatibleComponentsError(
            f"Head {parts.names['head']!r} has no weights of its own and strategy {parts.names['strategy']!r} trains "
            "none of the backbone, so that nothing can be learned. Use strategy='lora' or another one that trains."
        )


def _check_weight_type(parts: Parts) -> None:
    """Refuse weights of 16 bits where they are trained: most steps are smaller than what 16 bits can tell apart."""
    dtype = getattr(parts.backbone, "dtype", "float32")
    can = parts.strategy_capabilities
    if dtype != "float32" and not can.detachable and can.changes != "nothing":
        raise IncompatibleComponentsError(
            f"Strategy {parts.names['strategy']!r} trains the loaded weights themselves, which must be float32 for it; "
            f"backbone {parts.names['backbone']!r} has dtype={dtype!r}. Use dtype='float32', or a strategy that leaves "
            "them alone, such as 'lora'."
        )


def build_network(
    parts: Parts,
    statistics: LabelStatistics,
    *,
    folder: Path | None = None,
    read_weights: bool = True,
    backbone: Backbone | None = None,
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
        request = replace(strategy.load_request(), weights=read_weights, vocabulary=head.capabilities.vocabulary)
        backbone.load(request, folder)
    check_loaded(parts, strategy, backbone)
    strategy.adapt(backbone)
    head.bind(backbone, statistics)
    return MultiLabelNetwork(backbone, head), strategy


def check_loaded(parts: Parts, strategy: Strategy, backbone: Backbone) -> None:
    """Check what only a loaded backbone tells: what the strategy asks, and whether it has the layers that it needs.

    Raises
    ------
    IncompatibleComponentsError
    """
    strategy.check(backbone)
    if strategy.capabilities.needs_layers and backbone.n_layers == 0:
        raise IncompatibleComponentsError(
            f"Strategy {parts.names['strategy']!r} needs a stack of layers, and backbone {parts.names['backbone']!r} "
            "has none: its layers share weights (ALBERT) or cannot be told apart. Use strategy='full' or 'lora'."
        )
