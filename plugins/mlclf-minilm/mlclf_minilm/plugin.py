"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_backbones() -> list[ComponentSpec]:
    """Return the one backbone."""
    return [
        ComponentSpec(
            name="minilm:l6",
            target="mlclf_minilm.backbone:MiniLm",
            options="mlclf_minilm.backbone:MiniLmOptions",
            summary="all-MiniLM-L6-v2 from an installed package: no network needed",
            families=("encoder",),
            exportable=True,
        )
    ]
