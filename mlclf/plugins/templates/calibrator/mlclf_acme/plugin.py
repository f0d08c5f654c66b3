"""What this plugin offers. It is imported whenever plugins are listed: import nothing heavy here."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

# The version of the plugin API that this plugin was written for.
MLCLF_PLUGIN_API = (1, 1)


@hookimpl
def mlclf_calibrators() -> list[ComponentSpec]:
    """Return the calibrators of this plugin."""
    return [
        ComponentSpec(
            name="acme:calibrator",
            target="mlclf_acme.calibrator:AcmeCalibrator",
            options="mlclf_acme.calibrator:AcmeCalibratorOptions",
            summary="One temperature for the log-odds of all labels",
            # Its table() says what it does, so that models with it can be exported to ONNX.
            exportable=True,
            # Raise it when options that a released version saved can no longer be read.
            version=1,
        )
    ]
