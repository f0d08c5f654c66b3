"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

MLCLF_PLUGIN_API = (1, 0)

_FAMILIES = ("encoder", "causal-lm", "masked-lm", "other")


@hookimpl
def mlclf_heads() -> list[ComponentSpec]:
    """Return the two heads."""
    return [
        ComponentSpec(
            name="label-attention:laat",
            target="mlclf_label_attention.heads:LaatHead",
            options="mlclf_label_attention.options:LaatOptions",
            summary="One attention a label over tokens put through a hidden layer (LAAT)",
            families=_FAMILIES,
            exportable=True,
        ),
        ComponentSpec(
            name="label-attention:lwan",
            target="mlclf_label_attention.heads:LwanHead",
            options="mlclf_label_attention.options:LwanOptions",
            summary="One attention a label over the tokens (label-wise attention, CAML)",
            families=_FAMILIES,
            exportable=True,
        ),
    ]
