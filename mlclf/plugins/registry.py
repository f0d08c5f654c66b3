"""From the name or the options that a user gives to a component's classes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

from mlclf.exceptions import OptionsError, UnknownComponentError
from mlclf.hints import did_you_mean
from mlclf.options import Options
from mlclf.plugins.builtins import BUILTINS, STAND_INS
from mlclf.plugins.manager import PluginManager
from mlclf.plugins.spec import KINDS, LOCAL_ID, RESERVED_IDS, ComponentSpec, Kind, is_component_name, plugin_id_of
from mlclf.plugins.targets import load_classes

if TYPE_CHECKING:
    from mlclf.interfaces import Augmentation, Backbone, Calibrator, Head, Strategy
    from mlclf.losses import MultiLabelLoss

_lock = threading.Lock()
_manager: PluginManager | None = None


def get_manager() -> PluginManager:
    """Return the plugin manager of the process.

    Examples
    --------
    >>> get_manager() is get_manager()
    True
    """
    global _manager
    with _lock:
        if _manager is None:
            _manager = PluginManager()
        return _manager


@contextmanager
def use_manager(manager: PluginManager) -> Iterator[PluginManager]:
    """Make another manager that of the process for the length of a block; for tests.

    Examples
    --------
    >>> with use_manager(PluginManager(entry_points=[])) as manager:
    ...     get_manager() is manager
    True
    """
    global _manager
    before, _manager = _manager, manager
    try:
        yield manager
    finally:
        _manager = before


@overload
def resolve(
    kind: Literal["backbone"], choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, type[Backbone], Options]: ...
@overload
def resolve(
    kind: Literal["strategy"], choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, type[Strategy], Options]: ...
@overload
def resolve(
    kind: Literal["head"], choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, type[Head], Options]: ...
@overload
def resolve(
    kind: Literal["loss"], choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, type[MultiLabelLoss[Any]], Options]: ...
@overload
def resolve(
    kind: Literal["calibrator"], choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, type[Calibrator], Options]: ...
@overload
def resolve(
    kind: Literal["augmentation"], choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, type[Augmentation], Options]: ...
@overload
def resolve(
    kind: Kind, choice: str | Options, *, manager: PluginManager | None = ...
) -> tuple[ComponentSpec, Any, Options]: ...
def resolve(
    kind: Kind, choice: str | Options, *, manager: PluginManager | None = None
) -> tuple[ComponentSpec, Any, Options]:
    """Return the component that a user's choice stands for.

    Parameters
    ----------
    kind : Kind
        What is wanted.
    choice : str or Options
        A name (``"lora"``, ``"acme:attention"``), which stands for the component's default options; or options, which
        name their component themselves.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Returns
    -------
    spec : ComponentSpec
        The component's record.
    component : type
        Its class.
    options : Options
        Checked options, an object of the component's options class.

    Raises
    ------
    OptionsError
        If the choice is neither, or an option's value breaks its rule.
    UnknownComponentError
        If there is no such component.
    PluginError
        If its plugin cannot be used; each reason has an error class of its own.
    MissingExtraError
        If the component needs a package that is not installed.

    Examples
    --------
    >>> spec, component, options = resolve("strategy", "lora")
    >>> spec.name, component.__name__, type(options).__name__
    ('lora', 'LoraStrategy', 'LoraOptions')
    """
    name = _name_of(kind, choice)
    spec, component, options_class = component_classes(kind, name, manager=manager)
    if isinstance(choice, str):
        return spec, component, options_class()
    if not isinstance(choice, options_class):
        raise OptionsError(
            f"{kind} {name!r} takes options of class {options_class.__name__}, got {type(choice).__name__}."
        )
    return spec, component, choice.validated()


def resolve_named(
    kind: Kind, choice: str | Mapping[str, Any] | Options, *, manager: PluginManager | None = None
) -> Options:
    """Return the checked options of a component that is given as a user or a file gives it.

    Parameters
    ----------
    kind : Kind
        What is wanted.
    choice : str, mapping or Options
        As in :func:`resolve`; or ``{"name": "acme:typos", "rate": 0.1}``, the name and values of its options.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Raises
    ------
    OptionsError, UnknownComponentError, PluginError, MissingExtraError
        As :func:`resolve` does, and if a mapping has no name.

    Examples
    --------
    >>> resolve_named("loss", {"name": "focal", "gamma": 1}).gamma
    1.0
    """
    if not isinstance(choice, Mapping):
        return resolve(kind, choice, manager=manager)[2]
    name = choice.get("name")
    if not isinstance(name, str):
        raise OptionsError(f"a dictionary of the options of {_a(kind)} needs a name, got {dict(choice)!r}.")
    values = {key: value for key, value in choice.items() if key != "name"}
    return type(resolve(kind, name, manager=manager)[2])(**values)


def find_component(kind: Kind, name: str, *, manager: PluginManager | None = None) -> ComponentSpec:
    """Return a component's record; imports its plugin's declaration, never the component.

    Parameters
    ----------
    kind : Kind
        What is wanted.
    name : str
        Its name.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Raises
    ------
    UnknownComponentError
        If there is no such component.
    PluginError
        If its plugin cannot be used.

    Examples
    --------
    >>> find_component("head", "bce").target
    'mlclf.heads.bce:BceHead'
    """
    if kind not in KINDS:
        raise UnknownComponentError(f"a component is one of {', '.join(KINDS)}, got {kind!r}.")
    manager = manager or get_manager()
    plugin_id = plugin_id_of(name)
    if plugin_id is None or not is_component_name(name) or plugin_id in RESERVED_IDS - {LOCAL_ID}:
        return _builtin(kind, name, manager)
    if plugin_id == LOCAL_ID:
        return manager.local.find(kind, name)
    record = manager.load(plugin_id, purpose=f"{kind} {name!r}")
    offered = {spec.name: spec for spec in record.components.get(kind, ())}
    if name not in offered:
        raise UnknownComponentError(
            f"{record.title} has no {kind} {name!r}.{did_you_mean(name, offered)} "
            f"It offers: {', '.join(offered) or f'no {kind}'}."
        )
    return offered[name]


def component_classes(
    kind: Kind, name: str, *, manager: PluginManager | None = None
) -> tuple[ComponentSpec, Any, type[Options]]:
    """Return a component's record, class and options class; imports the component.

    Parameters
    ----------
    kind : Kind
        What is wanted.
    name : str
        Its name.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Raises
    ------
    UnknownComponentError
        If there is no such component.
    PluginError
        If its plugin cannot be used, or its classes are not what they must be.
    MissingExtraError
        If the component needs a package that is not installed.

    Examples
    --------
    >>> spec, component, options = component_classes("head", "bce")
    >>> spec.name, component.__name__, options.__name__
    ('bce', 'BceHead', 'BceOptions')
    """
    manager = manager or get_manager()
    spec = find_component(kind, name, manager=manager)
    plugin_id = plugin_id_of(spec.name)
    if plugin_id == LOCAL_ID:
        return (spec, *manager.local.classes(kind, spec.name))
    origin = "mlclf" if plugin_id is None else manager.record(plugin_id).title
    return (spec, *load_classes(kind, spec, origin))


def component_specs(kind: Kind, *, manager: PluginManager | None = None) -> tuple[ComponentSpec, ...]:
    """Return the records of all usable components of a kind: built in, registered in this process, from plugins.

    Loads the declarations of all plugins. A broken plugin gives a PluginLoadWarning and is left out.

    Examples
    --------
    >>> [spec.name for spec in component_specs("head", manager=PluginManager(entry_points=[]))]
    ['bce', 'label-query', 'verbalizer', 'prompt-generation']
    """
    manager = manager or get_manager()
    return (*BUILTINS[kind], *manager.local.specs(kind), *manager.components(kind))


def component_names(kind: Kind, *, manager: PluginManager | None = None) -> tuple[str, ...]:
    """Return the names of all usable components of a kind; see :func:`component_specs`.

    Examples
    --------
    >>> component_names("strategy", manager=PluginManager(entry_points=[]))[:5]
    ('full', 'head-only', 'partial', 'features', 'lora')
    """
    return tuple(spec.name for spec in component_specs(kind, manager=manager))


def _name_of(kind: Kind, choice: object) -> str:
    """Return the component name in a user's choice."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, Options):
        if type(choice).component:
            return type(choice).component
        raise OptionsError(f"{type(choice).__name__} names no component. Set component = 'plugin:name' in the class.")
    if isinstance(choice, type) and issubclass(choice, Options):
        raise OptionsError(
            f"{kind} must be a name or options, got the class {choice.__name__}. Call it: {choice.__name__}()."
        )
    example = BUILTINS[kind][0]
    raise OptionsError(
        f"{kind} must be a name or options, got {type(choice).__name__}. "
        f"Give {example.name!r} or {example.options.partition(':')[2]}(...)."
    )


def _builtin(kind: Kind, name: str, manager: PluginManager) -> ComponentSpec:
    """Return the record of a built-in component; names without a colon never load a plugin."""
    offered = {spec.name: spec for spec in (*BUILTINS[kind], *STAND_INS[kind])}
    if name not in offered:
        raise UnknownComponentError(
            f"no {kind} is named {name!r}.{_hint(kind, name, manager)} Built in: {', '.join(offered)}. "
            "Those of plugins are named 'plugin:name' (mlclf plugins list)."
        )
    return offered[name]


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _hint(kind: Kind, name: str, manager: PluginManager) -> str:
    """Return the likeliest way out for a name that is not built in."""
    plain = name.rpartition(":")[2] if plugin_id_of(name) in RESERVED_IDS else name
    if close := did_you_mean(plain.lower(), [spec.name for spec in BUILTINS[kind]]):
        return close
    for other in KINDS:
        if name in {spec.name for spec in BUILTINS[other]}:
            return f" {name!r} is {_a(other)}."
    if name in {record.id for record in manager.records()}:
        return f" {name!r} is a plugin; name one of its components (mlclf plugins show {name})."
    if kind == "backbone":
        return f" For a model id or a folder: BertOptions(model={name!r})."
    return ""
