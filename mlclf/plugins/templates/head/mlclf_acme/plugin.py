"""What this plugin offers. It is imported whenever plugins are listed: import nothing heavy here."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

# The version of the plugin API that this plugin was written for.
MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_heads() -> list[ComponentSpec]:
    """Return the heads of this plugin."""
    return [
        ComponentSpec(
            name="acme:head",
            target="mlclf_acme.head:AcmeHead",
            options="mlclf_acme.head:AcmeHeadOptions",
            summary="One logit a label from the mean and the maximum of the token states",
            # Raise it when options that a released version saved can no longer be read.
            version=1,
        )
    ]
