"""Loading one plugin: import, handshake, hooks. Whatever is wrong is raised; the manager isolates it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pluggy

from mlclf.exceptions import PluginError, PluginIncompatibleError
from mlclf.hints import did_you_mean
from mlclf.plugins.hookspecs import API_VERSION, HOOKS, SINCE, Hooks
from mlclf.plugins.records import Components
from mlclf.plugins.spec import ComponentSpec


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin's answers.

    Parameters
    ----------
    api : tuple of int
        The plugin API it was written for.
    components : mapping of kind to tuple of ComponentSpec
        Its components, sorted by name.
    """

    api: tuple[int, int]
    components: Components


def load_plugin(entry_point: EntryPoint) -> LoadedPlugin:
    """Import a plugin's module, check the handshake and call its hooks.

    Each plugin gets a pluggy manager of its own, so that a failure leaves nothing behind and no result depends on the
    order in which plugins are found.

    Raises
    ------
    Exception
        Whatever the plugin raises.
    PluginIncompatibleError
        If it was written for another plugin API.
    PluginError
        If it breaks a rule of the hooks.
    """
    module = entry_point.load()
    api = check_api(getattr(module, "MLCLF_PLUGIN_API", None))
    hooks = pluggy.PluginManager("mlclf")
    hooks.add_hookspecs(Hooks)
    hooks.register(module, name=entry_point.name)
    _check_hook_names(hooks, module, api)
    components = {kind: _specs(entry_point.name, hook, getattr(hooks.hook, hook)()) for kind, hook in HOOKS.items()}
    return LoadedPlugin(api=api, components={kind: specs for kind, specs in components.items() if specs})


def check_api(declared: object) -> tuple[int, int]:
    """Return the plugin API that a plugin declares, if this mlclf offers it.

    Raises
    ------
    PluginIncompatibleError
        If it is absent, malformed, or of another major or a later minor version.
    """
    match declared:
        case (int(major), int(minor)):
            pass
        case _:
            raise PluginIncompatibleError(
                f"must declare the plugin API it was written for, such as MLCLF_PLUGIN_API = {API_VERSION}, "
                f"got {declared!r}."
            )
    if major != API_VERSION[0] or minor > API_VERSION[1]:
        cure = "mlclf" if (major, minor) > API_VERSION else "the plugin"
        raise PluginIncompatibleError(
            f"was written for plugin API {major}.{minor}, this mlclf offers {API_VERSION[0]}.{API_VERSION[1]}. "
            f"Upgrade {cure}."
        )
    return major, minor


def _check_hook_names(hooks: pluggy.PluginManager, module: object, api: tuple[int, int]) -> None:
    """Refuse a plugin with a misspelt hook, which pluggy would never call, one newer than its API, or without any."""
    callers = hooks.get_hookcallers(module) or []
    for caller in callers:
        optional = all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is module)
        if not caller.has_spec() and not optional:
            hint = did_you_mean(caller.name, HOOKS.values())
            raise PluginError(f"mlclf has no hook {caller.name!r}.{hint} The hooks are {', '.join(HOOKS.values())}.")
        since = SINCE.get(caller.name, 0)
        if api[1] < since and not optional:
            raise PluginError(
                f"{caller.name}() came with plugin API {api[0]}.{since}, and the plugin declares {api[0]}.{api[1]}. "
                f"Declare MLCLF_PLUGIN_API = ({api[0]}, {since}), or mark the function @hookimpl(optionalhook=True) if "
                "the plugin is to be loaded by older versions of mlclf too."
            )
    if not callers:
        raise PluginError(f"No function is marked with @hookimpl. The hooks are {', '.join(HOOKS.values())}.")


def _specs(plugin_id: str, hook: str, answers: list[object]) -> tuple[ComponentSpec, ...]:
    """Return the checked specs of one hook, sorted by name."""
    found: dict[str, ComponentSpec] = {}
    for spec in _flat(hook, answers):
        if not spec.name.startswith(f"{plugin_id}:"):
            raise PluginError(
                f"{hook}() returned {spec.name!r}, which is outside the plugin's namespace. "
                f"Name it '{plugin_id}:{spec.name.rpartition(':')[2]}'."
            )
        if spec.name in found:
            raise PluginError(f"{hook}() returned {spec.name!r} twice. Give each component a name of its own.")
        found[spec.name] = spec
    return tuple(found[name] for name in sorted(found))


def _flat(hook: str, answers: list[object]) -> Iterable[ComponentSpec]:
    for answer in answers:
        if not isinstance(answer, Iterable):
            raise PluginError(f"{hook}() must return a list of ComponentSpec, got {type(answer).__name__}.")
        for spec in answer:
            if not isinstance(spec, ComponentSpec):
                raise PluginError(f"{hook}() must return a list of ComponentSpec, got {spec!r} in it.")
            yield spec
