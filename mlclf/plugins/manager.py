"""PluginManager: knows the installed plugins, loads each when it is needed, and isolates the broken ones."""

from __future__ import annotations

import importlib
import os
import threading
import traceback
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint

from mlclf._version import __version__
from mlclf.exceptions import MissingPluginError, PluginError, PluginIncompatibleError, PluginLoadError
from mlclf.hints import did_you_mean
from mlclf.plugins.builtins import FIRST_PARTY_PACKAGES
from mlclf.plugins.discovery import InstalledPlugin, find_entry_points, survey
from mlclf.plugins.environment import PluginFilter
from mlclf.plugins.loading import load_plugin
from mlclf.plugins.local import LocalComponents
from mlclf.plugins.records import PROBLEMS, PluginLoadWarning, PluginRecord, Status
from mlclf.plugins.spec import ComponentSpec, Kind


class PluginManager:
    """The installed plugins.

    Creating it does nothing. The first question reads package metadata, which imports no plugin; :meth:`load` imports
    one plugin. A plugin that fails stays failed, with its cause, for the life of the manager.

    Parameters
    ----------
    environ : mapping of str to str or None
        Environment variables (see :mod:`mlclf.plugins.environment`); None reads those of the process.
    entry_points : iterable of EntryPoint or None
        Entry points to consider; None finds those installed.
    host_version : str
        Version of mlclf that plugins' requirements are checked against.

    Attributes
    ----------
    local : LocalComponents
        Components registered in this process.
    host_version : str
        As given.

    Examples
    --------
    >>> PluginManager(entry_points=[]).records()
    ()
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        entry_points: Iterable[EntryPoint] | None = None,
        host_version: str = __version__,
    ) -> None:
        self.local = LocalComponents()
        self._environ = environ
        self._entry_points = None if entry_points is None else tuple(entry_points)
        self.host_version = host_version
        self._lock = threading.RLock()
        self._scanned = False
        self._strict = False
        self._plugins: dict[str, InstalledPlugin] = {}
        self._records: dict[str, PluginRecord] = {}
        self._loading: set[str] = set()
        self._reported: set[str] = set()

    def records(self) -> tuple[PluginRecord, ...]:
        """Return what is known of each installed plugin, sorted by id; imports nothing."""
        with self._lock:
            self._scan_once()
            return tuple(self._records[plugin_id] for plugin_id in sorted(self._records))

    def record(self, plugin_id: str, purpose: str = "") -> PluginRecord:
        """Return what is known of one plugin; imports nothing.

        Parameters
        ----------
        plugin_id : str
            Plugin id.
        purpose : str
            What it is needed for, to be named in an error.

        Raises
        ------
        MissingPluginError
            If it is not installed.
        """
        with self._lock:
            self._scan_once()
            if plugin_id not in self._records:
                self._scan()  # it may have been installed meanwhile, from within a notebook
            if plugin_id not in self._records:
                raise MissingPluginError(self._missing(plugin_id, purpose))
            return self._records[plugin_id]

    def installed(self, plugin_id: str) -> InstalledPlugin:
        """Return what package metadata says of one plugin; imports nothing.

        Parameters
        ----------
        plugin_id : str
            Plugin id.

        Raises
        ------
        MissingPluginError
            If it is not installed.
        """
        with self._lock:
            self.record(plugin_id)
            return self._plugins[plugin_id]

    def load(self, plugin_id: str, purpose: str = "") -> PluginRecord:
        """Load one plugin, unless it is loaded, and return its record.

        Parameters
        ----------
        plugin_id : str
            Plugin id.
        purpose : str
            What it is needed for, to be named in an error.

        Raises
        ------
        MissingPluginError
            If it is not installed.
        PluginDisabledError
            If an environment variable switches it off.
        PluginConflictError
            If several packages claim its id.
        PluginIncompatibleError
            If it was made for another version of mlclf.
        PluginLoadError
            If it fails while it is loaded, or did so before.
        """
        with self._lock:
            self.record(plugin_id, purpose)
            record = self._loaded(plugin_id)
        if record.status != "ok":
            raise record.error(f"{purpose} cannot be used: " if purpose else "") from record.cause
        return record

    def load_all(self) -> tuple[PluginRecord, ...]:
        """Load every plugin that is not switched off and return all records.

        Each plugin that cannot be used gives one PluginLoadWarning, or is raised where ``MLCLF_PLUGINS_STRICT`` is set.
        """
        with self._lock:
            records = tuple(self._loaded(record.id) for record in self.records())
            for record in records:
                self._report(record)
        return records

    def errors(self, *, load: bool = True) -> tuple[PluginRecord, ...]:
        """Return the records of the plugins that cannot be used, switched-off ones aside.

        Parameters
        ----------
        load : bool
            Load all plugins first; without it, what only loading shows is not known yet.
        """
        with self._lock:
            records = self.records()
            if load:
                records = tuple(self._loaded(record.id) for record in records)
        return tuple(record for record in records if record.status in PROBLEMS)

    def components(self, kind: Kind) -> tuple[ComponentSpec, ...]:
        """Return the components that all plugins offer for one kind; loads all plugins."""
        return tuple(spec for record in self.load_all() for spec in record.components.get(kind, ()))

    def _scan_once(self) -> None:
        if not self._scanned:
            self._scan()

    def _scan(self) -> None:
        """Read package metadata; what is known of a plugin already stays as it is."""
        importlib.invalidate_caches()
        allowed = PluginFilter.read(os.environ if self._environ is None else self._environ)
        found = find_entry_points() if self._entry_points is None else self._entry_points
        for plugin_id, (plugin, record) in survey(found, allowed, self.host_version).items():
            self._plugins.setdefault(plugin_id, plugin)
            self._records.setdefault(plugin_id, record)
        self._scanned, self._strict = True, allowed.strict

    def _loaded(self, plugin_id: str) -> PluginRecord:
        """Return the record of a plugin after an attempt to load it, which is made once."""
        record = self._records[plugin_id]
        if record.status != "unloaded":
            return record
        if plugin_id in self._loading:
            raise PluginLoadError(
                f"{record.title} asks for its own components while it is being loaded. "
                "Its module must only declare them; use them inside functions."
            )
        self._loading.add(plugin_id)
        try:
            self._records[plugin_id] = _attempt(self._plugins[plugin_id])
        finally:
            self._loading.discard(plugin_id)
        return self._records[plugin_id]

    def _report(self, record: PluginRecord) -> None:
        """Say once that a plugin cannot be used."""
        if record.status not in PROBLEMS or record.id in self._reported:
            return
        if self._strict:
            raise record.error() from record.cause
        self._reported.add(record.id)
        warnings.warn(str(record.error()), PluginLoadWarning, stacklevel=3)

    def _missing(self, plugin_id: str, purpose: str) -> str:
        """Return the message for a plugin that is not installed."""
        start = f"{purpose} needs plugin {plugin_id!r}, which" if purpose else f"plugin {plugin_id!r}"
        if package := FIRST_PARTY_PACKAGES.get(plugin_id):
            return f"{start} is not installed: pip install {package}"
        hint = did_you_mean(plugin_id, [*self._records, *FIRST_PARTY_PACKAGES])
        return (
            f"{start} is not installed.{hint} Installed plugins: {', '.join(sorted(self._records)) or 'none'}. "
            f"A plugin's package is usually named mlclf-{plugin_id}; see who publishes it before you install it."
        )


def _attempt(plugin: InstalledPlugin) -> PluginRecord:
    """Load a plugin and return its record, whatever happens; only KeyboardInterrupt and its like pass."""
    status: Status
    try:
        loaded = load_plugin(plugin.entry_point)
    except PluginIncompatibleError as error:
        cause: BaseException = error
        status, message = "incompatible", str(error)
    except (Exception, SystemExit) as error:
        cause = error
        status, message = "failed", f"failed to load: {describe(error)}."
    else:
        return PluginRecord(
            id=plugin.id,
            package=plugin.package,
            version=plugin.version,
            status="ok",
            api=loaded.api,
            components=loaded.components,
        )
    return PluginRecord(
        id=plugin.id,
        package=plugin.package,
        version=plugin.version,
        status=status,
        message=message,
        traceback="".join(traceback.format_exception(cause)),
        cause=cause,
    )


def describe(error: BaseException) -> str:
    """Return an error as one line without a full stop at its end.

    Examples
    --------
    >>> describe(KeyError("acme"))
    "KeyError: 'acme'"
    """
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"
