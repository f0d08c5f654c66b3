"""Which strategies go together on one backbone, and what the whole of them can do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from mlclf.exceptions import IncompatibleComponentsError, PluginError
from mlclf.interfaces import Strategy, StrategyCapabilities
from mlclf.plugins import resolve
from mlclf.plugins.builtins import BUILTINS

_MERGES = ("no", "lossy", "exact")
_CHANGES = ("nothing", "weights", "activations", "tokens")


def combined(parts: Sequence[StrategyCapabilities]) -> StrategyCapabilities:
    """Return what several strategies need and can do together.

    Parameters
    ----------
    parts : sequence of StrategyCapabilities
        At least one.

    Returns
    -------
    StrategyCapabilities
        The needs of all, and the abilities that all have in common.
    """
    return StrategyCapabilities(
        families=frozenset.intersection(*(part.families for part in parts)),
        merge=min((part.merge for part in parts), key=_MERGES.index),
        padding="right" if any(part.padding == "right" for part in parts) else "any",
        needs_layers=any(part.needs_layers for part in parts),
        gradient_checkpointing=all(part.gradient_checkpointing for part in parts),
        quantised_base=all(part.quantised_base for part in parts),
        export=all(part.export for part in parts),
        changes=max((part.changes for part in parts), key=_CHANGES.index),
        detachable=all(part.detachable for part in parts),
        chains=False,
        shares=False,  # no part says what the others do to a module that both change
    )


def check_chain(parts: Sequence[Strategy]) -> None:
    """Refuse strategies that do not go together, or not in this order.

    Parameters
    ----------
    parts : sequence of Strategy
        In the order in which they would adapt a backbone.

    Raises
    ------
    IncompatibleComponentsError
        Naming the strategies, the rule, and what to write instead.
    """
    for part in parts:
        _check_chains(part)
    for first, second in combinations(parts, 2):
        _check_different(first, second)
        _check_base(first, second)
        _check_base(second, first)
    _check_order(parts)
    _check_families(parts)


def _check_chains(part: Strategy) -> None:
    if not part.capabilities.chains:
        raise IncompatibleComponentsError(
            f"Strategy {_name(part)} cannot be combined with others. Use it alone, strategy={_name(part)}, or combine "
            f"some of: {', '.join(chaining_strategies())}."
        )


def _check_different(first: Strategy, second: Strategy) -> None:
    """Refuse one method twice, also under two names: both would take the same place in the model."""
    if _name(first) == _name(second):
        raise IncompatibleComponentsError(
            f"Strategy {_name(first)} stands twice in the chain. Name it once; its own options say how much it trains."
        )
    shared = set(type(first).__mro__) & set(type(second).__mro__)
    if any(issubclass(method, Strategy) and method is not Strategy for method in shared):
        raise IncompatibleComponentsError(
            f"Strategies {_name(first)} and {_name(second)} are forms of one method and cannot be combined. Choose one."
        )


def _check_base(quantising: Strategy, other: Strategy) -> None:
    if quantising.load_request().quantization is None:
        return
    if other.load_request().quantization is not None:
        raise IncompatibleComponentsError(
            f"Strategies {_name(quantising)} and {_name(other)} both quantise the backbone. Choose one."
        )
    if not other.capabilities.quantised_base:
        raise IncompatibleComponentsError(
            f"Strategy {_name(quantising)} quantises the backbone, and {_name(other)} cannot work on a quantised one. "
            f"Leave {_name(other)} out, or use 'lora' in the place of {_name(quantising)}."
        )


def _check_order(parts: Sequence[Strategy]) -> None:
    """Refuse a strategy after one whose modules it would take for the backbone's, or put its weights below."""
    ordered = sorted(parts, key=_place)
    if ordered == list(parts):
        return
    first, second = next((a, b) for a, b in pairwise(parts) if _place(a) > _place(b))
    raise IncompatibleComponentsError(
        f"Strategy {_name(second)} cannot follow {_name(first)}, whose modules it would meet inside the backbone. "
        "Weights come first, then what flows between layers (and of that, what merges), then virtual tokens: "
        f"strategy=[{', '.join(map(_name, ordered))}]."
    )


def _place(part: Strategy) -> tuple[int, bool]:
    """Return what a part is sorted by in a chain."""
    declared = part.capabilities
    return _CHANGES.index(declared.changes), declared.changes == "activations" and declared.merge == "no"


def _check_families(parts: Sequence[Strategy]) -> None:
    if not combined([part.capabilities for part in parts]).families:
        each = "; ".join(f"{_name(part)}: {', '.join(sorted(part.capabilities.families))}" for part in parts)
        raise IncompatibleComponentsError(
            f"No backbone works with all strategies of the chain ({each}). Leave one out."
        )


def chaining_strategies() -> list[str]:
    """Return the names of the built-in strategies that can be combined, quoted, for messages."""
    found = []
    for spec in BUILTINS["strategy"]:
        try:
            _, component, options = resolve("strategy", spec.name)
        except (PluginError, ImportError):
            continue  # a package that it needs is not installed, so that it is no way out here
        if component(options).capabilities.chains:
            found.append(repr(spec.name))
    return found


def _name(part: Strategy) -> str:
    return repr(part.options.component)
