"""From a component's record to its classes: the import, which may be heavy, and the checks after it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlclf.exceptions import MissingExtraError, PluginLoadError
from mlclf.options import Options
from mlclf.plugins.spec import ComponentSpec, Kind, plugin_id_of

if TYPE_CHECKING:
    from mlclf.interfaces import Augmentation, Backbone, Calibrator, Head, Strategy
    from mlclf.losses import MultiLabelLoss

    ComponentClass = (
        type[Backbone] | type[Strategy] | type[Head] | type[MultiLabelLoss[Any]] | type[Calibrator] | type[Augmentation]
    )

# Where each interface is found, and the base of its options; named as text because torch is imported with most.
_INTERFACES: dict[Kind, tuple[str, str]] = {
    "backbone": ("mlclf.interfaces:Backbone", "mlclf.options:Options"),
    "strategy": ("mlclf.interfaces:Strategy", "mlclf.options:Options"),
    "head": ("mlclf.interfaces:Head", "mlclf.options:Options"),
    "loss": ("mlclf.losses:MultiLabelLoss", "mlclf.losses:LossOptions"),
    "calibrator": ("mlclf.interfaces:Calibrator", "mlclf.options:NamedOptions"),
    "augmentation": ("mlclf.interfaces:Augmentation", "mlclf.options:NamedOptions"),
}

# What the extra mlclf[train] brings; a component that needs one of these cannot be used without it.
_TRAIN_MODULES = frozenset({"torch", "transformers", "peft", "accelerate", "sklearn", "bitsandbytes"})


def load_classes(kind: Kind, spec: ComponentSpec, origin: str) -> tuple[ComponentClass, type[Options]]:
    """Import a component and its options.

    Parameters
    ----------
    kind : Kind
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
    interface, base = _INTERFACES[kind]
    if not _is_subclass(component, interface):
        raise PluginLoadError(f"{owner}: {component!r} must be a subclass of {interface.replace(':', '.')}.")
    if not _is_subclass(options, base):
        raise PluginLoadError(f"{owner}: its options {options!r} must be a subclass of {base.replace(':', '.')}.")
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
    try:
        return _attribute(target)
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


def _is_subclass(found: Any, target: str) -> bool:
    return isinstance(found, type) and issubclass(found, _attribute(target))


def _attribute(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module_name), attribute)
