"""Merging of configurations: what stands above goes before what stands below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlclf.exceptions import OptionsError
from mlclf.hints import did_you_mean

COMPONENTS = ("backbone", "strategy", "head")
# Components of which several may stand in a list.
CHAINS = ("strategy",)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two configurations as one; values of the second go before those of the first.

    Sections are merged key by key. A component of another name brings its own options, so that those of the first
    are left out; so does each strategy of a list. In a list, a key is the name of the strategy that is meant.

    Examples
    --------
    >>> merged({"strategy": {"name": "lora", "r": 8}}, {"strategy": {"r": 16}})
    {'strategy': {'name': 'lora', 'r': 16}}
    >>> merged({"strategy": {"name": "lora", "r": 8}}, {"strategy": "full"})
    {'strategy': {'name': 'full'}}
    >>> merged({"strategy": ["lora", "adapter"]}, {"strategy": {"lora": {"r": 16}}})
    {'strategy': [{'name': 'lora', 'r': 16}, {'name': 'adapter'}]}
    """
    result = dict(below)
    for key, value in above.items():
        old, new = section(key, result.get(key)), section(key, value)
        if key in CHAINS and (isinstance(old, list) or isinstance(new, list)):
            result[key] = _merged_chain(old, new)
        else:
            mergeable = isinstance(old, dict) and isinstance(new, dict) and not _is_other_component(key, old, new)
            result[key] = merged(old, new) if mergeable else new
    return result


def section(key: str, value: Any) -> Any:
    """Write a component that is given by name alone as a section, and so each of a list of strategies."""
    if key in CHAINS and isinstance(value, list):
        return [section(key, part) for part in value]
    return {"name": value} if key in COMPONENTS and isinstance(value, str) else value


def _merged_chain(below: Any, above: Any) -> Any:
    """Return two choices of strategies as one, of which at least one is a list.

    Parameters
    ----------
    below, above : list of dict, dict or None
        Sections with names. The second may instead hold options by the name of a strategy of the first.

    Raises
    ------
    OptionsError
        If an option is given without saying of which strategy.
    """
    if isinstance(above, dict) and "name" not in above:
        return _with_options(below, above)
    if not isinstance(above, list):
        return above
    known = below if isinstance(below, list) else [below]
    kept = {part.get("name"): part for part in known if isinstance(part, dict)}
    return [merged(kept.get(part.get("name"), {}), part) if isinstance(part, dict) else part for part in above]


def _with_options(chain: list[Any], options: dict[str, Any]) -> list[Any]:
    """Return a chain with options set, given by the name of the strategy."""
    names = [str(part.get("name")) for part in chain if isinstance(part, dict)]
    for name, values in options.items():
        if name not in names or not isinstance(values, dict):
            raise OptionsError(
                f"strategy is a chain of {', '.join(names)}: say of which one {name!r} is an option, such as "
                f"strategy.{(names or ['lora'])[0]}.{name}=VALUE.{did_you_mean(name, names)}"
            )
    return [merged(part, options.get(str(part.get("name")), {})) if isinstance(part, dict) else part for part in chain]


def _is_other_component(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether the second section names another component than the first."""
    return key in COMPONENTS and "name" in old and "name" in new and new["name"] != old["name"]
