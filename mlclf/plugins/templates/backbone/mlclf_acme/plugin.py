"""What this plugin offers. It is imported whenever plugins are listed: import nothing heavy here."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

# The version of the plugin API that this plugin was written for.
MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_backbones() -> list[ComponentSpec]:
    """Return the backbones of this plugin."""
    return [
        ComponentSpec(
            name="acme:backbone",
            target="mlclf_acme.backbone:AcmeBackbone",
            options="mlclf_acme.backbone:AcmeBackboneOptions",
            summary="Bytes of the text, read by a convolution",
            # Raise it when options that a released version saved can no longer be read.
            version=1,
        )
    ]
