"""The hooks of a plugin: one for each kind of component.

A plugin is a distribution with one entry point in the group ``mlclf``. The entry point's name is the plugin's id and
the namespace of all its components; its value is a module that must stay light (no torch, transformers, peft or
scikit-learn import). A whole plugin module::

    from mlclf.plugins import ComponentSpec, hookimpl

    MLCLF_PLUGIN_API = (1, 0)


    @hookimpl
    def mlclf_heads():
        return [
            ComponentSpec(
                name="acme:attention",
                target="mlclf_acme.head:AttentionHead",
                options="mlclf_acme.head:AttentionOptions",
                summary="One attention query a label",
            )
        ]

and in its ``pyproject.toml``::

    [project]
    name = "mlclf-acme"
    dependencies = ["mlclf>=0.1,<1"]

    [project.entry-points.mlclf]
    acme = "mlclf_acme.plugin"
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from mlclf.plugins.spec import ComponentSpec, Kind

# A plugin declares the version it was written for as MLCLF_PLUGIN_API. The first number changes when existing
# plugins stop working, the second when something is added.
API_VERSION: tuple[int, int] = (1, 1)

ENTRY_POINT_GROUP = "mlclf"

hookspec = pluggy.HookspecMarker("mlclf")
hookimpl = pluggy.HookimplMarker("mlclf")

HOOKS: dict[Kind, str] = {
    "backbone": "mlclf_backbones",
    "strategy": "mlclf_strategies",
    "head": "mlclf_heads",
    "loss": "mlclf_losses",
    "calibrator": "mlclf_calibrators",
    "augmentation": "mlclf_augmentations",
}

# Minor version with which a hook came, where that is not the first.
SINCE: dict[str, int] = {"mlclf_losses": 1, "mlclf_calibrators": 1, "mlclf_augmentations": 1}


class Hooks:
    """The hook specifications. All are optional, take no arguments and are called once, when the plugin is loaded."""

    @hookspec
    def mlclf_backbones(self) -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
        """Return the plugin's backbones."""

    @hookspec
    def mlclf_strategies(self) -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
        """Return the plugin's strategies."""

    @hookspec
    def mlclf_heads(self) -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
        """Return the plugin's heads."""

    @hookspec
    def mlclf_losses(self) -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
        """Return the plugin's losses; from plugin API 1.1 on."""

    @hookspec
    def mlclf_calibrators(self) -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
        """Return the plugin's calibrators; from plugin API 1.1 on."""

    @hookspec
    def mlclf_augmentations(self) -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
        """Return the plugin's augmentations; from plugin API 1.1 on."""
