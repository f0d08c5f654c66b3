"""Snapshots of options' schemas, by which is told whether options that a release saved can still be read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlclf.exceptions import OptionsError
from mlclf.options import Options
from mlclf.plugins import KINDS, Kind, PluginManager, component_classes

Schema = dict[str, Any]


def schema_of(options: type[Options]) -> Schema:
    """Return the JSON schema of an options class without prose, which may change.

    Examples
    --------
    >>> from mlclf import BceOptions
    >>> schema_of(BceOptions)["properties"]["prior_bias"]
    {'default': True, 'type': 'boolean'}
    """
    plain: Schema = _without_prose(options.model_json_schema(mode="validation"))
    return plain


def write_snapshot(path: Path, components: Iterable[tuple[Kind, str]], manager: PluginManager) -> None:
    """Write version and schema of some components' options.

    Parameters
    ----------
    path : Path
        File to write.
    components : iterable of (kind, name)
        The components.
    manager : PluginManager
        Where they are looked up.
    """
    found = {}
    for kind, name in components:
        spec, _, options = component_classes(kind, name, manager=manager)
        found[entry_of(kind, name)] = {"version": spec.version, "schema": schema_of(options)}
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def entry_of(kind: Kind, name: str) -> str:
    """Return the name of a component's entry: a head and a loss may both be called ``bce``.

    Examples
    --------
    >>> entry_of("loss", "bce")
    'loss bce'
    """
    return f"{kind} {name}"


def read_snapshot(path: Path) -> dict[str, dict[str, Any]]:
    """Return what :func:`write_snapshot` wrote.

    Raises
    ------
    OptionsError
        If the file is absent or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        entries = [(key.partition(" ")[0], entry["version"], entry["schema"]) for key, entry in found.items()]
        if all(kind in KINDS and isinstance(v, int) and isinstance(schema, dict) for kind, v, schema in entries):
            return dict(found)
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise OptionsError(f"schemas={str(path)!r} cannot be read as a snapshot: {error!r}") from error
    raise OptionsError(f"schemas={str(path)!r} is no snapshot of options.")


def unreadable(before: Schema, now: Schema) -> list[str]:
    """Return why options that fit one schema may not fit a later one; empty where they do.

    Further options with defaults are no reason, nor are other defaults and wider types: only names and values that
    were allowed and are not any more.

    Examples
    --------
    >>> one = {"properties": {"r": {"type": "integer", "minimum": 1}}}
    >>> unreadable(one, {"properties": {"rank": {"type": "integer"}}})
    ["option 'r' is gone"]
    >>> unreadable(one, {"properties": {"r": {"type": "integer", "minimum": 2}}})
    ["option 'r' was integer from 1 on and is integer from 2 on"]
    >>> unreadable(one, {"properties": {"r": {"type": "number"}, "k": {"default": 1}}})
    []
    """
    old, new = before.get("properties", {}), now.get("properties", {})
    reasons = [f"option {name!r} is gone" for name in old if name not in new]
    for name in old:
        if name in new and not _allows(_resolved(new[name], now), _resolved(old[name], before)):
            was, became = _words(_resolved(old[name], before)), _words(_resolved(new[name], now))
            reasons.append(f"option {name!r} was {was} and is {became}")
    required = [name for name in now.get("required", []) if name not in before.get("required", [])]
    return reasons + [f"option {name!r} has no default any more" for name in required]


def _without_prose(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_prose(item) for key, item in value.items() if key not in ("title", "description")}
    return [_without_prose(item) for item in value] if isinstance(value, list) else value


def _resolved(entry: Schema, whole: Schema) -> Schema:
    """Return a schema in the place of a reference to it."""
    reference = entry.get("$ref", "")
    return whole.get("$defs", {}).get(reference.rpartition("/")[2], entry) if reference else entry


def _allows(new: Schema, old: Schema) -> bool:
    """Say whether a schema allows every value that another one did, as far as simple types tell."""
    if "anyOf" in old:
        return all(_allows(new, choice) for choice in old["anyOf"])
    if "anyOf" in new:
        return any(_allows(choice, old) for choice in new["anyOf"])
    if "type" not in new and "enum" not in new and "const" not in new and "$ref" not in new:
        return True  # any value
    if values := _values(old):
        return set(values) <= set(_values(new) or values) and (bool(_values(new)) or _type_allows(new, old))
    return not _values(new) and _type_allows(new, old) and _range_allows(new, old)


def _values(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", []))


def _type_allows(new: Schema, old: Schema) -> bool:
    return new.get("type") == old.get("type") or (new.get("type"), old.get("type")) == ("number", "integer")


def _range_allows(new: Schema, old: Schema) -> bool:
    """Say whether a range of numbers contains another one."""
    (new_low, new_high), (old_low, old_high) = _range(new), _range(old)
    return new_low <= old_low and new_high >= old_high


def _range(schema: Schema) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return a range's ends as pairs that compare as the ranges do: an end that is left out is further in."""
    low = [(schema[key], place) for key, place in (("minimum", 0), ("exclusiveMinimum", 1)) if key in schema]
    high = [(schema[key], place) for key, place in (("maximum", 0), ("exclusiveMaximum", -1)) if key in schema]
    return max(low, default=(-math.inf, 0)), min(high, default=(math.inf, 0))


def _words(schema: Schema) -> str:
    """Return a schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_words(choice) for choice in schema["anyOf"])
    if values := _values(schema):
        return "one of " + ", ".join(json.dumps(value) for value in values)
    words = str(schema.get("type", "any value"))
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    words += f" from {lowest} on" if lowest is not None else ""
    return words + (f" up to {highest}" if highest is not None else "")
