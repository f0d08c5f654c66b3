"""Losses, calibrator and augmentations of a model: which it needs, and whether a saved one says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from mlclf.bundle.manifest import CalibratorEntry, Manifest
from mlclf.chaining.options import ChainOptions
from mlclf.exceptions import BundleDamagedError
from mlclf.model import Model
from mlclf.options import AugmentationOptions, Options, TrainingOptions
from mlclf.plugins import Kind, find_component, resolve
from mlclf.uses import choices

Used = dict[Kind, tuple[str, ...]]
Allow = Callable[[Kind, str], None]


def components_of(model: Model) -> Used:
    """Return the names of all components of a model, by kind: its parts, and those that options choose."""
    return {**model.parts.components, **uses_of(model)}


def uses_of(model: Model) -> Used:
    """Return the names of the components that a model's options choose, by kind; all built-in ones too."""
    options = [*_parts(model), model.training]
    if model.calibrator is not None:
        options.append(model.calibrator.options)
    found = [pair for part in options for pair in _used(type(part), part.get_params(), lambda kind, name: None)]
    if model.calibrator is not None:
        found.append(("calibrator", model.calibrator.options.component))
    return _by_kind(found)


def check_uses(manifest: Manifest) -> None:
    """Refuse a manifest whose options choose a component that it does not list.

    Plugins are asked for, and allowed or refused, by that list, before any is imported; so nothing else in the file may
    lead to one. The plugins that the manifest lists must have passed before this is called.

    Raises
    ------
    BundleDamagedError
    UnknownComponentError, PluginError
        If a component that is listed cannot be found.
    """

    def allow(kind: Kind, name: str) -> None:
        # A manifest of an earlier version lists none, and all were built in.
        if name not in manifest.uses.get(kind, ()) and ":" in name:
            raise BundleDamagedError(
                f"The manifest's options choose a {kind} that is not among the components that it lists: it was "
                "altered. Copy the folder again from where it was saved."
            )
        find_component(kind, name)

    for kind, entries in manifest.entries().items():
        for entry in entries:
            _by_kind(_used(type(resolve(kind, entry.name)[2]), entry.options, allow))
    _by_kind(_used(TrainingOptions, manifest.training, allow))
    if isinstance(manifest.calibrator, CalibratorEntry):
        allow("calibrator", manifest.calibrator.name)
        _by_kind(_used(type(resolve("calibrator", manifest.calibrator.name)[2]), manifest.calibrator.options, allow))


def _parts(model: Model) -> Iterator[Options]:
    for options in model.parts.options.values():
        yield from options.parts if isinstance(options, ChainOptions) else (options,)


def _used(options: type[Options], values: Mapping[str, Any], allow: Allow) -> Iterator[tuple[Kind, str]]:
    """Yield kind and name of what values choose, and of what the options of these choose.

    Parameters
    ----------
    options : type
    values : mapping of str to object
    allow : callable
        Called with kind and name before a component's class is asked for, and raises where it must not be.
    """
    for choice in choices(options, values):
        # AugmentationOptions are written without a name where a person writes them.
        kind, name = cast(Kind, choice.kind), choice.name or AugmentationOptions.component
        allow(kind, name)
        yield kind, name
        yield from _used(type(resolve(kind, name)[2]), choice.values, allow)


def _by_kind(pairs: Iterable[tuple[Kind, str]]) -> Used:
    found: dict[Kind, tuple[str, ...]] = {}
    for kind, name in pairs:
        found[kind] = tuple(dict.fromkeys((*found.get(kind, ()), name)))
    return found
