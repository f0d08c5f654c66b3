"""Checks of a plugin's package: its metadata, its declaration, and what importing it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlclf.exceptions import ConformanceError
from mlclf.plugins.discovery import InstalledPlugin, host_problem
from mlclf.plugins.hookspecs import API_VERSION, ENTRY_POINT_GROUP
from mlclf.plugins.manager import PluginManager
from mlclf.plugins.spec import RESERVED_IDS, is_plugin_id

HEAVY = ("torch", "transformers", "peft", "sklearn")

# Run in a process of its own: whatever the plugin imports, and the modules of its components, are then known.
_PROGRAM = """
import json, sys, time
from importlib.metadata import EntryPoint
from mlclf.plugins.loading import load_plugin
name, value, group, *heavy = sys.argv[1:]
started = time.perf_counter()
loaded = load_plugin(EntryPoint(name, value, group))
seconds = time.perf_counter() - started
specs = [spec for specs in loaded.components.values() for spec in specs]
modules = {target.partition(":")[0] for spec in specs for target in (spec.target, spec.options)}
print(json.dumps({"seconds": seconds, "imported": sorted({*heavy, *modules} & set(sys.modules))}))
"""


@dataclass(frozen=True)
class Package:
    """A plugin's package under test.

    Parameters
    ----------
    plugin_id : str
    manager : PluginManager
        Where the plugin is looked up.
    """

    plugin_id: str
    manager: PluginManager

    @property
    def metadata(self) -> InstalledPlugin:
        """What the package's metadata says."""
        return self.manager.installed(self.plugin_id)


def check_package_name(package: Package) -> None:
    """The package is named mlclf-<plugin id>, so that a model file that names the plugin tells what to install."""
    wanted, found = f"mlclf-{package.plugin_id}", package.metadata.package
    if canonicalize_name(found) != canonicalize_name(wanted):
        raise ConformanceError(
            f"The plugin {package.plugin_id!r} comes from a package named {found!r}. "
            f'Set name = "{wanted}" in pyproject.toml, or rename the entry point.'
        )


def check_entry_point(package: Package) -> None:
    """The package has exactly one entry point in the group mlclf, whose name is a valid plugin id."""
    source = package.metadata.entry_point.dist
    points = [] if source is None else [p.name for p in source.entry_points if p.group == ENTRY_POINT_GROUP]
    if len(points) > 1:
        raise ConformanceError(
            f"The package has {len(points)} entry points in the group {ENTRY_POINT_GROUP!r}: {', '.join(points)}. "
            "Keep one: its module may offer any number of components."
        )
    if not is_plugin_id(package.plugin_id) or package.plugin_id in RESERVED_IDS:
        raise ConformanceError(
            f"{package.plugin_id!r} is no plugin id: lower case, a letter first, at most 40 of a-z 0-9 _ -, and none "
            f"of {', '.join(sorted(RESERVED_IDS))}. Rename the entry point."
        )


def check_requirement(package: Package) -> str:
    """The package requires mlclf with a lower and an upper bound, and this version is within them."""
    own = [r for r in map(Requirement, package.metadata.requires) if canonicalize_name(r.name) == "mlclf"]
    cure = 'Write dependencies = ["mlclf>=0.1,<1"] with the versions that you have tested.'
    if not own:
        raise ConformanceError(f"The package does not require mlclf. {cure}")
    operators = {specifier.operator for requirement in own for specifier in requirement.specifier}
    bounds = {"lower": {">=", ">", "==", "~="}, "upper": {"<", "<=", "==", "~="}}
    missing = [bound for bound, wanted in bounds.items() if not operators & wanted]
    if missing:
        raise ConformanceError(f"The requirement {str(own[0])!r} has no {' and no '.join(missing)} bound. {cure}")
    if problem := host_problem(package.metadata.requires, package.manager.host_version):
        raise ConformanceError(f"The package {problem}")
    return str(own[0])


def check_plugin_api(package: Package) -> str:
    """The plugin loads, and declares the version of the plugin API that it was written for."""
    record = package.manager.load(package.plugin_id)
    offered = [spec.name for specs in record.components.values() for spec in specs]
    if not offered:
        raise ConformanceError("The plugin's hooks return no component. Return a ComponentSpec for each.")
    if record.api != API_VERSION:
        return f"written for {record.api}, this mlclf offers {API_VERSION}"
    return f"offers {', '.join(offered)}"


def check_light_import(package: Package) -> str:
    """Loading the plugin's declaration imports neither training libraries nor the modules of its components."""
    point = package.metadata.entry_point
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-P", "-c", _PROGRAM, point.name, point.value, point.group, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ConformanceError(f"{point.value} cannot be loaded in a process of its own:\n{done.stderr.strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["imported"]:
        raise ConformanceError(
            f"Loading {point.value} imports {', '.join(found['imported'])}. Every program that lists plugins waits for "
            'it. Import it in the module that holds the classes; ComponentSpec names them as text, "module:Class".'
        )
    return f"{1000 * found['seconds']:.0f} ms, mlclf.plugins aside"


PACKAGE_CHECKS = (check_package_name, check_entry_point, check_requirement, check_plugin_api, check_light_import)
