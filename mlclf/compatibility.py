"""Compatibility: which backbones, strategies and heads go together, by the checks that ``fit`` and an export make.

There is no table here that could differ from the errors: every cell is the answer of the checks themselves to what the
components declare. What only a loaded model can tell (a stack of layers, biases, an attention that takes a prefix) is
not part of it; :func:`mlclf.strategy_table.strategy_table` tries that on one backbone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from mlclf.assembly import Component, resolve_parts
from mlclf.chaining.options import StrategyChoice
from mlclf.chaining.strategy import resolve_strategy
from mlclf.exceptions import IncompatibleComponentsError, MlclfError
from mlclf.matching import check_learns
from mlclf.onnx.checks import check_parts as check_export
from mlclf.options import Options
from mlclf.parts import Parts
from mlclf.plugins import component_names


@dataclass(frozen=True)
class Cell:
    """One combination of components.

    Parameters
    ----------
    backbone, strategy, head : str
        Names; those of a chain's strategies joined by ``" + "``.
    refusal : str or None
        Why ``fit`` refuses it before anything is loaded; None where it does not.
    merge : {"exact", "lossy", "no"} or None
        Whether the strategy merges into plain weights; None for a refused combination.
    gradient_checkpointing : bool
        Whether activations may be recomputed in training.
    export_refusal : str or None
        Why it cannot be exported to ONNX; None where it can.
    """

    backbone: str
    strategy: str
    head: str
    refusal: str | None = None
    merge: Literal["exact", "lossy", "no"] | None = None
    gradient_checkpointing: bool = False
    export_refusal: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether ``fit`` takes it."""
        return self.refusal is None

    @property
    def exports(self) -> bool:
        """Whether its models can be exported to ONNX."""
        return self.allowed and self.export_refusal is None


def compatibility(
    backbones: Iterable[Component] | None = None,
    strategies: Iterable[StrategyChoice] | None = None,
    heads: Iterable[Component] | None = None,
) -> tuple[Cell, ...]:
    """Return every combination of some components; nothing is loaded.

    Parameters
    ----------
    backbones, strategies, heads : iterable of str or Options, or None
        Names stand for default options; a strategy may be a list. None takes all that are registered: built in, of
        installed plugins, of this process.

    Returns
    -------
    tuple of Cell
        Backbones outermost, heads innermost.

    Examples
    --------
    >>> [cell] = compatibility(["bert"], [["lora"]], ["bce"])
    >>> cell.allowed, cell.merge, cell.exports
    (True, 'exact', True)
    """
    chosen_heads = list(component_names("head") if heads is None else heads)
    chosen_strategies = list(component_names("strategy") if strategies is None else strategies)
    return tuple(
        _cell(backbone, strategy, head)
        for backbone in (component_names("backbone") if backbones is None else backbones)
        for strategy in chosen_strategies
        for head in chosen_heads
    )


def chains(strategies: Sequence[Component] | None = None) -> dict[tuple[str, str], str | None]:
    """Say of every ordered pair of strategies why it is no chain, None where it is one.

    Parameters
    ----------
    strategies : sequence of str or Options, or None
        None takes all that are registered.

    Returns
    -------
    dict of (str, str) to str or None

    Examples
    --------
    >>> print(chains(["lora", "full"])["lora", "full"][:43])
    Strategy 'full' cannot be combined with oth
    """
    chosen = component_names("strategy") if strategies is None else strategies
    return {(_name(first), _name(second)): _chain_refusal(first, second) for first, second in permutations(chosen, 2)}


def _cell(backbone: Component, strategy: StrategyChoice, head: Component) -> Cell:
    names = _name(backbone), _name(strategy), _name(head)
    try:
        parts = resolve_parts(backbone, strategy, head)
        check_learns(parts)
    except MlclfError as error:
        return Cell(*names, refusal=str(error))
    capabilities = parts.strategy_capabilities
    return Cell(
        *names,
        merge=capabilities.merge,
        gradient_checkpointing=capabilities.gradient_checkpointing,
        export_refusal=_export_refusal(parts),
    )


def _export_refusal(parts: Parts) -> str | None:
    try:
        check_export(parts)
    except IncompatibleComponentsError as error:
        return str(error)
    return None


def _chain_refusal(first: Component, second: Component) -> str | None:
    try:
        resolve_strategy([first, second])
    except MlclfError as error:
        return str(error)
    return None


def _name(choice: StrategyChoice) -> str:
    """Return what a choice is called, without looking it up."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, Options):
        return " + ".join(getattr(choice, "names", (choice.component,)))
    return " + ".join(_name(part) for part in choice)
