"""Fake installed plugins, for testing plugins and what uses them; needs neither pip nor a network."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlclf.plugins.discovery import find_entry_points
from mlclf.plugins.manager import PluginManager


class PluginEnv:
    """A folder of fake distributions on ``sys.path``; made by :func:`plugin_env`.

    Parameters
    ----------
    folder : Path
        Where distributions are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        plugin_id: str,
        source: str,
        *,
        package: str | None = None,
        version: str = "1.0",
        requires: Sequence[str] = (),
        modules: Mapping[str, str] | None = None,
    ) -> str:
        """Write a distribution with one plugin, as pip would leave it.

        Parameters
        ----------
        plugin_id : str
            Plugin id: the name of the entry point.
        source : str
            Python source of the plugin's module; common indentation is removed.
        package : str or None
            Name of the distribution; None is ``"mlclf-<plugin_id>"``.
        version : str
            Its version.
        requires : sequence of str
            Its ``Requires-Dist`` lines.
        modules : mapping of str to str or None
            More modules of its import package, by name, with their source.

        Returns
        -------
        str
            Name of the import package; the plugin's module is ``plugin`` in it.
        """
        package = package or f"mlclf-{plugin_id}"
        import_name = package.replace("-", "_")
        for name, text in {"__init__": "", "plugin": source, **(modules or {})}.items():
            path = self.folder / import_name / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        self.declare(plugin_id, f"{import_name}.plugin", package=package, version=version, requires=requires)
        return import_name

    def declare(
        self, plugin_id: str, module: str, *, package: str, version: str = "1.0", requires: Sequence[str] = ()
    ) -> None:
        """Write the metadata of a distribution whose modules are importable already, such as a plugin under test.

        Parameters
        ----------
        plugin_id : str
            Plugin id: the name of the entry point.
        module : str
            The plugin's module: the value of the entry point.
        package : str
            Name of the distribution.
        version : str
            Its version.
        requires : sequence of str
            Its ``Requires-Dist`` lines.
        """
        folder = self.folder / f"{package.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["Metadata-Version: 2.1", f"Name: {package}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "entry_points.txt").write_text(f"[mlclf]\n{plugin_id} = {module}\n", encoding="utf-8")

    def manager(self, environ: Mapping[str, str] | None = None, host_version: str | None = None) -> PluginManager:
        """Return a manager that sees the plugins of this folder only.

        Parameters
        ----------
        environ : mapping of str to str or None
            Environment variables; None is none at all.
        host_version : str or None
            Version of mlclf to pretend; None is the real one.
        """
        version = {} if host_version is None else {"host_version": host_version}
        return PluginManager(environ=environ or {}, entry_points=find_entry_points([str(self.folder)]), **version)

    def imported(self) -> set[str]:
        """Return the names of the modules that have been imported from this folder."""
        start = f"{self.folder}{os.sep}"
        origins = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        return {name for name, origin in origins.items() if isinstance(origin, str) and origin.startswith(start)}


@contextmanager
def plugin_env(folder: Path) -> Iterator[PluginEnv]:
    """Put an empty folder on ``sys.path`` for fake plugins; modules imported from it are forgotten afterwards.

    Parameters
    ----------
    folder : Path
        An existing folder, such as pytest's ``tmp_path``.

    Yields
    ------
    PluginEnv
        Where plugins are installed and asked for.

    Examples
    --------
    >>> import tempfile
    >>> source = '''
    ... from mlclf.plugins import ComponentSpec, hookimpl
    ... MLCLF_PLUGIN_API = (1, 0)
    ... @hookimpl
    ... def mlclf_heads():
    ...     return [ComponentSpec(name="acme:x", target="acme.x:X", options="acme.x:XOptions", summary="an x")]
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder, plugin_env(Path(folder)) as env:
    ...     import_name = env.install("acme", source)
    ...     [spec.name for spec in env.manager().components("head")]
    ['acme:x']
    """
    env = PluginEnv(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield env
    finally:
        sys.path.remove(str(folder))
        for name in env.imported():
            del sys.modules[name]
