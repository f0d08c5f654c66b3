"""From a component's record to its classes: the import, which may be heavy, and the checks after it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlclf.exceptions import MissingExtraError, PluginLoadError
from mlclf.options import Options
from mlclf.plugins.spec import ComponentSpec, Kind, plugin_id_of

if TYPE_CHECKING:
    from mlclf.interfaces import Backbone, Head, Strategy

    ComponentClass = type[Backbone] | type[Strategy] | type[Head]

_INTERFACES: dict[Kind, str] = {"backbone": "Backbone", "strategy": "Strategy", "head": "Head"}

# What the extra mlclf[train] brings; a component that needs one of these cannot be used without it.
_TRAIN_MODULES = frozenset({"torch", "transformers", "peft", "accelerate", "sklearn", "bitsandbytes"})


def load_classes(kind: Kind, spec: ComponentSpec, origin: str) -> tuple[ComponentClass, type[Options]]:
    """Import a component and its options.

    Parameters
    ----------
    kind : {"backbone", "strategy", "head"}
        What the component must be.
    spec : ComponentSpec
        Its record.
    origin : str
        Where the record comes from, to be named in an error, such as ``"plugin 'acme' (mlclf-acme 1.0)"``.

    Raises
    ------
    MissingExtraError
        If a package of the extra ``train`` is not installed.
    PluginLoadError
        If a plugin's class cannot be imported or is not what it must be.
    """
    owner = f"{kind} {spec.name!r} of {origin}"
    component = _import(spec.target, spec, owner)
    options = _import(spec.options, spec, owner)
    check_classes(kind, spec.name, component, options, owner)
    return component, options


def check_classes(kind: Kind, name: str, component: Any, options: Any, owner: str) -> None:
    """Check that two classes are a component of a kind and its options.

    Raises
    ------
    PluginLoadError
        If one of them is not.
    """
    interface = getattr(importlib.import_module("mlclf.interfaces"), _INTERFACES[kind])
    if not (isinstance(component, type) and issubclass(component, interface)):
        raise PluginLoadError(f"{owner}: {component!r} must be a subclass of mlclf.interfaces.{interface.__name__}.")
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise PluginLoadError(f"{owner}: its options {options!r} must be a subclass of mlclf.options.Options.")
    if missing := sorted(getattr(component, "__abstractmethods__", ())):
        raise PluginLoadError(f"{owner}: class {component.__name__} does not define {', '.join(missing)}.")
    if options.component != name:
        raise PluginLoadError(
            f"{owner}: set component = {name!r} in class {options.__name__}, it is {options.component!r}."
        )
    if getattr(component, "Options", None) is not options:
        raise PluginLoadError(f"{owner}: set Options = {options.__name__} in class {component.__name__}.")


def _import(target: str, spec: ComponentSpec, owner: str) -> Any:
    """Return the class that ``"module:Class"`` names."""
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing in _TRAIN_MODULES:
            raise MissingExtraError(
                f'{owner} needs {missing}, which is not installed: pip install "mlclf[train]"'
            ) from error
        if plugin_id_of(spec.name) is None:
            raise
        raise PluginLoadError(
            f"{owner}: {target!r} cannot be imported ({type(error).__name__}: {' '.join(str(error).split())})."
        ) from error
