"""Plugins: components from installed packages, beside those that come with mlclf.

:mod:`mlclf.plugins.hookspecs` shows a whole plugin. Importing this package imports no torch, and no plugin.
"""

from mlclf.plugins.component_versions import check_component_versions
from mlclf.plugins.hookspecs import API_VERSION, hookimpl, hookspec
from mlclf.plugins.manager import PluginManager
from mlclf.plugins.provenance import provenance, require
from mlclf.plugins.records import PluginLoadWarning, PluginRecord
from mlclf.plugins.registration import (
    register_augmentation,
    register_backbone,
    register_calibrator,
    register_head,
    register_loss,
    register_strategy,
)
from mlclf.plugins.registry import (
    component_classes,
    component_names,
    component_specs,
    find_component,
    get_manager,
    resolve,
    resolve_named,
    use_manager,
)
from mlclf.plugins.scaffold import new_plugin
from mlclf.plugins.spec import KINDS, ComponentSpec, Kind

__all__ = [
    "API_VERSION",
    "KINDS",
    "ComponentSpec",
    "Kind",
    "PluginLoadWarning",
    "PluginManager",
    "PluginRecord",
    "check_component_versions",
    "component_classes",
    "component_names",
    "component_specs",
    "find_component",
    "get_manager",
    "hookimpl",
    "hookspec",
    "new_plugin",
    "provenance",
    "register_augmentation",
    "register_backbone",
    "register_calibrator",
    "register_head",
    "register_loss",
    "register_strategy",
    "require",
    "resolve",
    "resolve_named",
    "use_manager",
]
