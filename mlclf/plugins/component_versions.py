"""Whether installed components still read the options that a saved model has for them.

A component's own version (``ComponentSpec.version``) tells what its package's version does not: a package may add a
feature, and raise its major version, without a change in the options of a component, and the other way round.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from mlclf.exceptions import PluginIncompatibleError
from mlclf.plugins.manager import PluginManager
from mlclf.plugins.provenance import Components, PluginEntry, checked_entries, each_component
from mlclf.plugins.records import PluginLoadWarning
from mlclf.plugins.registry import find_component, get_manager
from mlclf.plugins.spec import Kind, plugin_id_of


def check_component_versions(
    entries: Iterable[Mapping[str, Any]],
    components: Components,
    *,
    allow_version_mismatch: bool = False,
    manager: PluginManager | None = None,
) -> None:
    """Compare the versions of a saved model's components with those that its plugins declare here.

    Call it once :func:`mlclf.plugins.require` has passed: it imports the declarations of plugins, by the names of
    components that were allowed. What an entry says is compared and never looked up.

    Parameters
    ----------
    entries : iterable of mapping
        Read from the model's manifest; those of an earlier version of mlclf have no versions, and are passed over.
    components : mapping of kind to str or tuple of str
        Component names by kind.
    allow_version_mismatch : bool
        Warn where a version differs, instead of refusing.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Raises
    ------
    PluginIncompatibleError
        If a component has another version than the one that was saved.

    Warns
    -----
    PluginLoadWarning
        In the place of that error, where it is allowed.

    Examples
    --------
    >>> check_component_versions([], {"backbone": "bert", "strategy": "lora", "head": "bce"})
    """
    manager = manager or get_manager()
    by_id = checked_entries(entries)
    for kind, name in each_component(components):
        entry = by_id.get(plugin_id_of(name) or "")
        saved = None if entry is None else _saved_version(entry, kind, name)
        if entry is None or saved is None:
            continue
        installed = find_component(kind, name, manager=manager).version
        if installed != saved:
            message = _message(entry, f"{kind} {name!r}", saved, installed, manager)
            if not allow_version_mismatch:
                raise PluginIncompatibleError(
                    f'{message} Install "{entry["package"]}=={entry["version"]}", or load it with '
                    "allow_plugin_version_mismatch=True and check the predictions."
                )
            warnings.warn(f"{message} Check the predictions.", PluginLoadWarning, stacklevel=2)


def _saved_version(entry: PluginEntry, kind: Kind, name: str) -> int | None:
    """Return the version that an entry gives for a component, None where it gives none."""
    found = (part["version"] for part in entry.get("components", ()) if (part["kind"], part["name"]) == (kind, name))
    return next(found, None)


def _message(entry: PluginEntry, component: str, saved: int, installed: int, manager: PluginManager) -> str:
    here = manager.record(entry["id"])
    return (
        f"This model was saved with version {saved} of {component} ({entry['package']} {entry['version']}); installed "
        f"is version {installed} ({here.package} {here.version}), which may read its options otherwise."
    )
