"""What this plugin offers. It is imported whenever plugins are listed: import nothing heavy here."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

# The version of the plugin API that this plugin was written for.
MLCLF_PLUGIN_API = (1, 1)


@hookimpl
def mlclf_augmentations() -> list[ComponentSpec]:
    """Return the augmentations of this plugin."""
    return [
        ComponentSpec(
            name="acme:augmentation",
            target="mlclf_acme.augmentation:AcmeAugmentation",
            options="mlclf_acme.augmentation:AcmeAugmentationOptions",
            summary="Neighbouring letters that change places",
            # Raise it when options that a released version saved can no longer be read.
            version=1,
        )
    ]
