"""Parts: the three components of a model, as classes and checked options."""

from __future__ import annotations

from dataclasses import dataclass

from mlclf.chaining.options import ChainOptions
from mlclf.interfaces import Backbone, Head, HeadCapabilities, Strategy, StrategyCapabilities
from mlclf.options import Options
from mlclf.plugins.spec import PART_KINDS, Kind


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
