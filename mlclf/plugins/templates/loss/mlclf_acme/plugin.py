"""What this plugin offers. It is imported whenever plugins are listed: import nothing heavy here."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

# The version of the plugin API that this plugin was written for.
MLCLF_PLUGIN_API = (1, 1)


@hookimpl
def mlclf_losses() -> list[ComponentSpec]:
    """Return the losses of this plugin."""
    return [
        ComponentSpec(
            name="acme:loss",
            target="mlclf_acme.loss:AcmeLoss",
            options="mlclf_acme.loss:AcmeLossOptions",
            summary="Binary cross-entropy with smoothed targets",
            # Raise it when options that a released version saved can no longer be read.
            version=1,
        )
    ]
