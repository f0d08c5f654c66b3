"""What this plugin offers. It is imported whenever plugins are listed: import nothing heavy here."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

# The version of the plugin API that this plugin was written for.
MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_strategies() -> list[ComponentSpec]:
    """Return the strategies of this plugin."""
    return [
        ComponentSpec(
            name="acme:strategy",
            target="mlclf_acme.strategy:AcmeStrategy",
            options="mlclf_acme.strategy:AcmeStrategyOptions",
            summary="Train biases and norms",
            # Raise it when options that a released version saved can no longer be read.
            version=1,
        )
    ]
