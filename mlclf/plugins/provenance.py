"""Which plugins a saved model needs, and whether those installed here may serve it.

The entries come from a file that anybody may have written. So everything in them is checked before it is shown, names
lead only to installed and enabled entry points, and nothing is ever installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from mlclf.exceptions import (
    BundleDamagedError,
    MissingPluginError,
    OptionsError,
    PluginDisabledError,
    PluginIncompatibleError,
    PluginLoadError,
)
from mlclf.plugins.manager import PluginManager
from mlclf.plugins.records import PROBLEMS, PluginLoadWarning, PluginRecord
from mlclf.plugins.registry import find_component, get_manager
from mlclf.plugins.spec import KINDS, LOCAL_ID, Kind, is_component_name, is_plugin_id, plugin_id_of

# Component names by kind; several where strategies form a chain.
Components: TypeAlias = Mapping[Kind, str] | Mapping[Kind, tuple[str, ...]]

_MAX_VERSION_LENGTH = 60


def _check_plugin_id(text: str) -> str:
    if not is_plugin_id(text):
        raise ValueError("no plugin id")
    return text


def _check_version_text(text: str) -> str:
    """Refuse what is no PEP 440 version, or one with spaces around it."""
    if len(text) > _MAX_VERSION_LENGTH or text != text.strip():
        raise ValueError("no version")
    Version(text)  # InvalidVersion is a ValueError
    return text


def _check_component_name(text: str) -> str:
    if not is_component_name(text):
        raise ValueError("no component name")
    return text


@with_config(ConfigDict(extra="forbid", strict=True))
class PluginComponent(TypedDict):
    """One component of a plugin, with the version of its options (``ComponentSpec.version``)."""

    kind: Kind
    name: Annotated[str, AfterValidator(_check_component_name)]
    version: Annotated[int, Field(ge=1)]


@with_config(ConfigDict(extra="forbid", strict=True))
class PluginEntry(TypedDict):
    """One plugin in a saved model's manifest.

    ``package`` and ``version`` are those of the distribution that provided it, ``api`` the plugin API it was written
    for, ``used_for`` the kinds of component that the model takes from it, ``components`` these components; models of
    earlier versions of mlclf do not list them.
    """

    id: Annotated[str, AfterValidator(_check_plugin_id)]
    # The form of a distribution name in PEP 508; the length keeps a message readable.
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
    version: Annotated[str, AfterValidator(_check_version_text)]
    api: Annotated[list[int], Field(min_length=2, max_length=2)]
    used_for: list[Kind]
    components: NotRequired[list[PluginComponent]]


_ENTRIES = TypeAdapter(list[PluginEntry])


def provenance(components: Components, *, manager: PluginManager | None = None) -> list[PluginEntry]:
    """Return what a saved model must say about the plugins it uses.

    Parameters
    ----------
    components : mapping of kind to str or tuple of str
        Component names by kind, as ``{"backbone": "bert", "strategy": "lora", "head": "acme:attention"}``; a tuple
        where there are several of a kind, as in a chain of strategies.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Returns
    -------
    list of PluginEntry
        JSON values, sorted by plugin id; empty where all components are built in. Components registered in the
        process (``local:...``) belong to no package and have no entry.

    Raises
    ------
    PluginError
        If one of the plugins cannot be used.

    Examples
    --------
    >>> provenance({"backbone": "bert", "strategy": "lora", "head": "bce"})
    []
    """
    manager = manager or get_manager()
    return [_entry(manager.load(plugin_id), uses, manager) for plugin_id, uses in sorted(_users(components).items())]


def require(
    entries: Iterable[Mapping[str, Any]],
    components: Components,
    *,
    allow_plugins: Collection[str] | Literal["none"] | None = None,
    allow_version_mismatch: bool = False,
    manager: PluginManager | None = None,
) -> None:
    """Check that the plugins of a saved model may and can be used here, before any of them is imported.

    Parameters
    ----------
    entries : iterable of mapping
        The entries that :func:`provenance` gave when the model was saved, read from its manifest.
    components : mapping of kind to str
        Component names by kind, read from its manifest.
    allow_plugins : collection of str, "none" or None
        Ids of the plugins that a model may use; None allows all that are installed and enabled.
    allow_version_mismatch : bool
        Accept another major version of a plugin than the one that saved the model.
    manager : PluginManager or None
        Where plugins are looked up; None takes that of the process.

    Raises
    ------
    BundleDamagedError
        If entries or component names are malformed, or a component's plugin has no entry.
    MissingPluginError
        If a plugin is not installed, or its id is provided by another package than the saved one.
    PluginDisabledError
        If it is switched off, or not in ``allow_plugins``.
    PluginIncompatibleError
        If its major version is another than the saved one.
    PluginError
        If it cannot be used for another reason.

    Warns
    -----
    PluginLoadWarning
        If an older minor version is installed than the one that saved the model, or another major version that is
        accepted.

    Examples
    --------
    >>> require([], {"backbone": "bert", "strategy": "lora", "head": "bce"})
    """
    manager = manager or get_manager()
    _check_allow_plugins(allow_plugins)
    by_id = checked_entries(entries)
    _check_names(components)
    for plugin_id, uses in sorted(_users(components).items()):
        if plugin_id not in by_id:
            raise BundleDamagedError(f"The model uses {uses[0][1]!r} but lists no plugin {plugin_id!r}.")
        need = f"this model needs plugin {plugin_id!r} ({', '.join(f'{kind} {name!r}' for kind, name in uses)})"
        _check_allowed(plugin_id, need, allow_plugins)
        _check_installed(by_id[plugin_id], need, manager, allow_version_mismatch)
    for kind, name in each_component(components):
        if plugin_id_of(name) in (None, LOCAL_ID):
            find_component(kind, name, manager=manager)


def each_component(components: Components) -> Iterator[tuple[Kind, str]]:
    """Yield kind and name of every component, in the order of the kinds."""
    for kind in KINDS:
        names: str | tuple[str, ...] = components.get(kind, ())
        for name in names if isinstance(names, tuple) else (names,):
            yield kind, name


def _users(components: Components) -> dict[str, list[tuple[Kind, str]]]:
    """Return the components that come from each plugin."""
    users: dict[str, list[tuple[Kind, str]]] = {}
    for kind, name in each_component(components):
        plugin_id = plugin_id_of(name)
        if plugin_id not in (None, LOCAL_ID):
            users.setdefault(str(plugin_id), []).append((kind, name))
    return users


def _entry(record: PluginRecord, uses: list[tuple[Kind, str]], manager: PluginManager) -> PluginEntry:
    """Return the entry of a loaded plugin, in a form that :func:`require` accepts."""
    entry: PluginEntry = {
        "id": record.id,
        "package": record.package,
        "version": record.version,
        "api": list(record.api or ()),
        "used_for": list(dict.fromkeys(kind for kind, _ in uses)),
        "components": [
            {"kind": kind, "name": name, "version": find_component(kind, name, manager=manager).version}
            for kind, name in uses
        ],
    }
    try:
        return _ENTRIES.validate_python([entry])[0]
    except ValidationError:
        raise PluginLoadError(
            f"{record.title} has no valid name and version in its package metadata, so a model that uses it cannot be "
            "saved. Reinstall it."
        ) from None


def checked_entries(entries: Iterable[Mapping[str, Any]]) -> dict[str, PluginEntry]:
    """Return entries, by plugin id, whose strings are safe to show; malformed ones are refused without showing them."""
    try:
        return {entry["id"]: entry for entry in _ENTRIES.validate_python(list(entries))}
    except ValidationError as error:
        field = next((part for part in error.errors()[0]["loc"] if part in PluginEntry.__annotations__), "form")
        raise BundleDamagedError(f"The model's list of plugins has an entry with a malformed {field!r}.") from None


def _check_names(components: Components) -> None:
    if not set(components) <= set(KINDS) or not all(
        isinstance(name, str) and is_component_name(name) for _, name in each_component(components)
    ):
        raise BundleDamagedError("The model's components must be named 'name' or 'plugin:name', by kind.")


def _check_allow_plugins(allowed: Collection[str] | str | None) -> None:
    if isinstance(allowed, str) and allowed != "none":
        raise OptionsError(
            f"allow_plugins must be a set of plugin ids, 'none' or None, got {allowed!r}. Wrap it: {{{allowed!r}}}."
        )


def _check_allowed(plugin_id: str, need: str, allowed: Collection[str] | Literal["none"] | None) -> None:
    if allowed is None or (allowed != "none" and plugin_id in allowed):
        return
    raise PluginDisabledError(f"{need}, which allow_plugins does not name. Add {plugin_id!r} if you trust it.")


def _check_installed(entry: PluginEntry, need: str, manager: PluginManager, allow_version_mismatch: bool) -> None:
    """Compare the plugin of an entry with what is installed."""
    saved = f"{need}, saved with {entry['package']} {entry['version']}"
    try:
        record = manager.record(entry["id"])
    except MissingPluginError:
        raise MissingPluginError(
            f'{saved}. If you trust this package: pip install "{_requirement(entry)}". '
            "(The package name comes from the model file.)"
        ) from None
    if record.status in PROBLEMS or record.status == "disabled":
        raise record.error(f"{need}, which cannot be used: ")
    if canonicalize_name(record.package) != canonicalize_name(entry["package"]):
        raise MissingPluginError(
            f"{saved}, but here {entry['id']!r} is provided by {record.package} {record.version}. "
            "Another package under the same id is not used. Uninstall it and install the one named, if you trust that."
        )
    _check_version(entry, record, saved, allow_version_mismatch)


def _check_version(entry: PluginEntry, record: PluginRecord, saved: str, allow_version_mismatch: bool) -> None:
    here = f"{saved}; installed is {record.version}"
    try:
        installed, wanted = Version(record.version), Version(entry["version"])
    except InvalidVersion:
        raise PluginIncompatibleError(f"{here}, which is no version number. Reinstall {record.package}.") from None
    if (installed.epoch, installed.major) != (wanted.epoch, wanted.major):
        if not allow_version_mismatch:
            raise PluginIncompatibleError(
                f'{here}, another major version. Install "{_requirement(entry)}", or load it with '
                "allow_plugin_version_mismatch=True and check the predictions."
            )
        warnings.warn(f"{here}, another major version. Check the predictions.", PluginLoadWarning, 4)
    elif installed.release[:2] < wanted.release[:2]:
        warnings.warn(f'{here}, which is older. Better: pip install "{_requirement(entry)}"', PluginLoadWarning, 4)


def _requirement(entry: PluginEntry) -> str:
    """Return the requirement of the same major version, from the saved version on."""
    version = Version(entry["version"])
    epoch = f"{version.epoch}!" if version.epoch else ""
    return f"{entry['package']}>={version.public},<{epoch}{version.major + 1}"
