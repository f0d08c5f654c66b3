"""ChainOptions: what a list of strategies is turned into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeAlias

from pydantic import field_serializer

from mlclf.exceptions import OptionsError
from mlclf.hints import did_you_mean
from mlclf.options import Options
from mlclf.plugins import resolve

Part: TypeAlias = str | Options
StrategyChoice: TypeAlias = Part | Sequence[Part]


class ChainOptions(Options):
    """Options of several strategies on one backbone, in the order in which they adapt it.

    ``strategy=["lora", "adapter"]`` is turned into it. An option of a part is named by the part's name and its own,
    with ``_`` for every other sign in the name: ``set_params(strategy__lora__r=16)``,
    ``set_params(strategy__acme_noise__rate=0.1)``.

    Parameters
    ----------
    parts : tuple of Options
        Options of each strategy.

    Examples
    --------
    >>> from mlclf import LoraOptions
    >>> chain = ChainOptions(parts=(LoraOptions(r=8),))
    >>> chain.replace(lora__r=16).get_params()["lora__r"]
    16
    """

    component: ClassVar[str] = "chain"

    parts: tuple[Options, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Registered name of each part."""
        return tuple(part.component for part in self.parts)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parts by name, and where ``deep`` is set also the options of each."""
        params: dict[str, Any] = {_key(part): part for part in self.parts}
        if deep:
            for key, part in list(params.items()):
                params |= {f"{key}__{name}": value for name, value in part.get_params().items()}
        return params

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some parts or options of parts changed; they are checked by :meth:`validated`.

        Parameters
        ----------
        **changes
            ``<part>=options`` or ``<part>__<option>=value``.

        Raises
        ------
        OptionsError
            If there is no such part, or a part has no such option.
        """
        parts = {_key(part): part for part in self.parts}
        # Whole parts first, so that a search may set a part and one of its options at once.
        for name, value in sorted(changes.items(), key=lambda change: "__" in change[0]):
            part, _, option = name.partition("__")
            if part not in parts:
                raise OptionsError(
                    f"The chain {self.names} has no part {part!r}.{did_you_mean(part, parts)} "
                    f"It has: {', '.join(parts)}, each with its options, such as {next(iter(parts))}__learning_rate."
                )
            parts[part] = parts[part].replace(**{option: value}) if option else options_of(value)
        return type(self)(parts=tuple(parts.values()))

    def validated(self) -> Self:
        """Return an equal object whose parts have all been checked."""
        return type(self)(parts=tuple(part.validated() for part in self.parts))

    @field_serializer("parts")
    def _with_names(self, parts: tuple[Options, ...]) -> list[dict[str, Any]]:
        """Write the name beside the options: two strategies may have the same options."""
        return [{"name": part.component, "options": part.model_dump(mode="json")} for part in parts]


def chain_options(choices: Sequence[Part]) -> ChainOptions:
    """Return the options that a list of names and options stands for; values are not checked yet.

    Parameters
    ----------
    choices : sequence of str or Options
        Names stand for the default options.

    Raises
    ------
    OptionsError
        If the list is empty, or holds a chain or something else that is no strategy.
    PluginError
        If a strategy cannot be found.

    Examples
    --------
    >>> chain_options(["lora"]).names
    ('lora',)
    """
    if not choices:
        raise OptionsError(
            "strategy is an empty list. Name one strategy, strategy='lora', or several that are to be trained "
            "together, strategy=['lora', 'adapter']."
        )
    return ChainOptions(parts=tuple(options_of(choice) for choice in choices))


def options_of(choice: Part) -> Options:
    """Return the options of one part, for a name the default ones.

    Raises
    ------
    OptionsError
        If it is a chain itself, or neither a name nor options.
    """
    if isinstance(choice, list | tuple | ChainOptions):
        raise OptionsError("A chain of strategies holds no other chain. Write all of them into one list.")
    if isinstance(choice, Options) and choice.component:
        return choice
    return resolve("strategy", choice)[2]


def _key(part: Options) -> str:
    """Return a part's name as it stands in names of parameters."""
    return re.sub(r"\W", "_", part.component)
