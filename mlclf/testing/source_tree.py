"""A plugin as its project file declares it, whether or not it is installed."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from pathlib import Path
from typing import Any

from mlclf.exceptions import PluginError
from mlclf.plugins.hookspecs import ENTRY_POINT_GROUP
from mlclf.plugins.manager import PluginManager


class _Project(importlib.metadata.Distribution):
    """The distribution that a project file describes, as the standard library reads installed ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
            raise PluginError(f"{path} is no readable project file with a table [project] ({error!r}).") from error

    def read_text(self, filename: str) -> str | None:
        """Return the content that a metadata file would have."""
        project = self._project
        if filename == "METADATA":
            lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project.get('version', '0')}"]
            return "\n".join([*lines, *(f"Requires-Dist: {line}" for line in project.get("dependencies", []))]) + "\n"
        if filename == "entry_points.txt":
            points = project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
            return "\n".join([f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in points.items())])
        return None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Return where a file of the distribution is."""
        return self._path.parent / path


def project_manager(folder: str | Path) -> PluginManager:
    """Return a manager that sees one plugin alone, as its ``pyproject.toml`` declares it.

    For the tests of a plugin in a repository of several, where not every one is installed. The plugin's modules must
    be importable.

    Parameters
    ----------
    folder : path
        Folder with the ``pyproject.toml``.

    Returns
    -------
    PluginManager

    Raises
    ------
    PluginError
        If the file is absent or unreadable.

    Examples
    --------
    >>> import tempfile
    >>> project = '''
    ... [project]
    ... name = "mlclf-acme"
    ... version = "1.0"
    ... dependencies = ["mlclf>=0.1,<1"]
    ... [project.entry-points.mlclf]
    ... acme = "mlclf_acme.plugin"
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "pyproject.toml").write_text(project)
    ...     [record.package for record in project_manager(folder).records()]
    ['mlclf-acme']
    """
    project = _Project(Path(folder) / "pyproject.toml")
    points = [point for point in project.entry_points if point.group == ENTRY_POINT_GROUP]
    return PluginManager(environ={}, entry_points=points)
