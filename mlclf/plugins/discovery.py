"""Which plugins are installed: read from package metadata, without importing any of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlclf.plugins.environment import DISABLE, PluginFilter
from mlclf.plugins.hookspecs import ENTRY_POINT_GROUP
from mlclf.plugins.records import PluginLoadWarning, PluginRecord, Status
from mlclf.plugins.spec import RESERVED_IDS, is_plugin_id

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InstalledPlugin:
    """An entry point of an installed distribution.

    Parameters
    ----------
    entry_point : EntryPoint
        Its name is the plugin id.
    package : str
        Name of the distribution.
    version : str
        Version of the distribution.
    requires : tuple of str
        Its ``Requires-Dist`` lines.
    """

    entry_point: EntryPoint
    package: str
    version: str
    requires: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Plugin id."""
        return self.entry_point.name

    @classmethod
    def of(cls, entry_point: EntryPoint) -> InstalledPlugin:
        """Read what the metadata of an entry point's distribution says."""
        source: Distribution | None = entry_point.dist
        if source is None:
            return cls(entry_point, package="unknown package", version="")
        metadata = source.metadata
        known = {key: metadata[key] for key in ("Name", "Version") if key in metadata}
        return cls(
            entry_point,
            package=known.get("Name", "unknown package"),
            version=known.get("Version", ""),
            requires=tuple(source.requires or ()),
        )

    def record(self, status: Status = "unloaded", message: str = "") -> PluginRecord:
        """Return a record of this plugin before it is loaded."""
        return PluginRecord(id=self.id, package=self.package, version=self.version, status=status, message=message)


def find_entry_points(path: list[str] | None = None) -> list[EntryPoint]:
    """Return the entry points of the group ``mlclf``.

    ``importlib.metadata.entry_points`` would do the same, but one unreadable file anywhere stops it.

    Parameters
    ----------
    path : list of str or None
        Folders to look in; None looks where Python imports from.
    """
    found = distributions() if path is None else distributions(path=path)
    return [entry_point for distribution in found for entry_point in _entry_points_of(distribution)]


def _entry_points_of(distribution: Distribution) -> list[EntryPoint]:
    try:
        return [point for point in distribution.entry_points if point.group == ENTRY_POINT_GROUP]
    except Exception as error:  # the parser raises what the malformed line happens to cause
        if f"[{ENTRY_POINT_GROUP}]" in (distribution.read_text("entry_points.txt") or ""):
            warnings.warn(
                f"The entry points of package {distribution.name!r} cannot be read "
                f"({type(error).__name__}: {error}), so its mlclf plugin is missing. Reinstall the package.",
                PluginLoadWarning,
                stacklevel=2,
            )
        return []


def survey(
    entry_points: Iterable[EntryPoint], allowed: PluginFilter, host_version: str
) -> dict[str, tuple[InstalledPlugin, PluginRecord]]:
    """Return the installed plugins by id, in alphabetical order, each with its record from metadata alone.

    Parameters
    ----------
    entry_points : iterable of EntryPoint
        Those of the group ``mlclf``.
    allowed : PluginFilter
        What the environment allows.
    host_version : str
        Version of mlclf, against which the plugins' requirements are checked.
    """
    claims: dict[str, dict[str, InstalledPlugin]] = {}
    for entry_point in entry_points:
        plugin = InstalledPlugin.of(entry_point)
        # An editable install may leave the metadata of one distribution in two places: that is no conflict.
        claims.setdefault(plugin.id, {}).setdefault(canonicalize_name(plugin.package), plugin)
    if unknown := allowed.unknown_disabled((i, package) for i, packages in claims.items() for package in packages):
        _log.warning("%s names %s, which is not installed.", DISABLE, ", ".join(unknown))
    return {
        plugin_id: _judge([claims[plugin_id][name] for name in sorted(claims[plugin_id])], allowed, host_version)
        for plugin_id in sorted(claims)
    }


def _judge(
    claimants: list[InstalledPlugin], allowed: PluginFilter, host_version: str
) -> tuple[InstalledPlugin, PluginRecord]:
    """Return the plugin that one id stands for; an id that several packages claim stands for none."""
    usable = [plugin for plugin in claimants if allowed.refusal(plugin.id, plugin.package) is None]
    if not usable:
        plugin = claimants[0]
        return plugin, plugin.record("disabled", allowed.refusal(plugin.id, plugin.package) or "")
    plugin = usable[0]
    if len(usable) > 1:
        return plugin, _conflict(usable)
    if not is_plugin_id(plugin.id) or plugin.id in RESERVED_IDS:
        rule = "a reserved id" if plugin.id in RESERVED_IDS else "no valid id (lower case, a letter first)"
        return plugin, plugin.record("failed", f"has {rule}. Its author must rename its entry point.")
    if problem := host_problem(plugin.requires, host_version):
        return plugin, plugin.record("incompatible", problem)
    return plugin, plugin.record()


def _conflict(plugins: list[InstalledPlugin]) -> PluginRecord:
    packages = [plugin.package for plugin in plugins]
    return PluginRecord(
        id=plugins[0].id,
        package=", ".join(packages),
        version="",
        status="conflict",
        message=(
            f"is claimed by {len(packages)} installed packages, so none of them is used. Uninstall the unwanted one, "
            f"or switch it off: MLCLF_DISABLE_PLUGINS={packages[-1]}."
        ),
    )


def host_problem(requires: Iterable[str], host_version: str) -> str | None:
    """Return why a distribution's requirements rule out this version of mlclf, None where they do not.

    pip checks them when it installs, but nobody does when something is upgraded past them later.

    Examples
    --------
    >>> host_problem(["numpy", "mlclf>=3"], "1.3.0")
    'requires mlclf>=3, this is mlclf 1.3.0. Install versions that fit together.'
    """
    for text in requires:
        try:
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except (InvalidRequirement, UndefinedEnvironmentName):
            return f"has an unreadable requirement in its metadata: {text!r}. Reinstall it."
        if not applies or canonicalize_name(requirement.name) != "mlclf":
            continue
        if not requirement.specifier.contains(host_version, prereleases=True):
            wanted = f"mlclf{requirement.specifier}"
            return f"requires {wanted}, this is mlclf {host_version}. Install versions that fit together."
    return None
