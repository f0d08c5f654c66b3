"""The matrix: which backbone, strategy and head make a cell, and which combinations are refused unfitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, cast

from mlclf.assembly import Component, resolve_parts
from mlclf.chaining.options import ChainOptions, StrategyChoice
from mlclf.chaining.strategy import resolve_strategy
from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.options import Options
from mlclf.plugins import Kind, resolve
from mlclf.plugins.spec import LOCAL_ID, PART_KINDS, plugin_id_of


@dataclass(frozen=True)
class Cell:
    """One combination.

    Parameters
    ----------
    backbone, strategy, head : str
        Name and, in brackets, options other than the default ones.
    entries : dict of kind to list of dict
        JSON-ready: name and options of each component; of a chain, those of its strategies.
    """

    backbone: str
    strategy: str
    head: str
    entries: dict[Kind, list[dict[str, Any]]]

    @property
    def names(self) -> dict[Kind, tuple[str, ...]]:
        """Registered names of the components by kind."""
        return {kind: tuple(entry["name"] for entry in entries) for kind, entries in self.entries.items()}

    @property
    def title(self) -> str:
        """All three in one line."""
        return f"{self.backbone} / {self.strategy} / {self.head}"


@dataclass(frozen=True)
class Refusal:
    """A combination that was not fitted.

    Parameters
    ----------
    title : str
        The three components in one line.
    reason : str
    """

    title: str
    reason: str


def make_matrix(
    backbones: Sequence[Component], strategies: Sequence[StrategyChoice], heads: Sequence[Component]
) -> tuple[list[Cell], list[Refusal]]:
    """Combine components, and refuse what they declare not to go together.

    Returns
    -------
    cells : list of Cell
    refused : list of Refusal

    Raises
    ------
    OptionsError
        If a list is empty or names a component twice, or an option breaks its rule.
    PluginError
        If a component is not known, or lives in this process alone.
    """
    chosen = {
        "backbone": _resolved("backbone", backbones),
        "strategy": _resolved("strategy", strategies),
        "head": _resolved("head", heads),
    }
    cells, refused = [], []
    for backbone, strategy, head in product(*chosen.values()):
        cell = Cell(title_of(backbone), title_of(strategy), title_of(head), _entries(backbone, strategy, head))
        try:
            resolve_parts(backbone, strategy, head)
        except IncompatibleComponentsError as error:
            refused.append(Refusal(cell.title, str(error)))
        else:
            cells.append(cell)
    return cells, refused


def title_of(options: Options) -> str:
    """Return what a component is called in tables: its name, and options other than the default ones.

    Examples
    --------
    >>> from mlclf import LoraOptions
    >>> title_of(LoraOptions(r=8)), title_of(LoraOptions())
    ('lora (r=8)', 'lora')
    """
    if isinstance(options, ChainOptions):
        return " + ".join(map(title_of, options.parts))
    changed = ", ".join(f"{name}={value}" for name, value in options.model_dump(exclude_defaults=True).items())
    return f"{options.component} ({changed})" if changed else options.component


def restored(kind: Kind, entries: Sequence[dict[str, Any]]) -> list[Options]:
    """Return the options of a component from its JSON-ready entries: one, or those of a chain."""
    return [type(_options(kind, entry["name"]))(**entry["options"]) for entry in entries]


def _resolved(kind: Kind, choices: Sequence[StrategyChoice]) -> list[Options]:
    """Return checked options of all components of a kind."""
    if isinstance(choices, str) or not choices:
        raise OptionsError(f"{kind} must be given as a list of at least one name or options, got {choices!r}.")
    found = [_options(kind, choice) for choice in choices]
    titles = [title_of(options) for options in found]
    for options, title in zip(found, titles, strict=True):
        if titles.count(title) > 1:
            raise OptionsError(f"{kind} {title!r} is named twice. Name each {kind} once.")
        for part in _parts(options):
            if plugin_id_of(part.component) == LOCAL_ID:
                raise OptionsError(
                    f"{kind} {part.component!r} is registered in this process alone, and each fit runs in a process "
                    "of its own. Put it into a plugin package: see mlclf.plugins."
                )
    return found


def _options(kind: Kind, choice: StrategyChoice) -> Options:
    """Return the checked options of one component."""
    if kind == "strategy":
        return resolve_strategy(choice)[1]
    # resolve itself refuses a list of backbones or heads.
    return resolve(cast("Literal['backbone']", kind), cast(str, choice))[2]


def _parts(options: Options) -> tuple[Options, ...]:
    """Return the strategies of a chain, any other component alone."""
    return options.parts if isinstance(options, ChainOptions) else (options,)


def _entries(*components: Options) -> dict[Kind, list[dict[str, Any]]]:
    """Return backbone, strategy and head in the form that travels to another process."""
    return {
        kind: [{"name": part.component, "options": part.model_dump(mode="json")} for part in _parts(options)]
        for kind, options in zip(PART_KINDS, components, strict=True)
    }
