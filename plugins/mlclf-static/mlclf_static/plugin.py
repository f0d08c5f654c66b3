"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_backbones() -> list[ComponentSpec]:
    """Return the two backbones."""
    return [
        ComponentSpec(
            name="static:file",
            target="mlclf_static.file:StaticBackbone",
            options="mlclf_static.file:StaticOptions",
            summary="Static token embeddings from a local folder (safetensors and tokenizer.json)",
            families=("other",),
            exportable=True,
        ),
        ComponentSpec(
            name="static:hashed",
            target="mlclf_static.hashed:HashedBackbone",
            options="mlclf_static.hashed:HashedOptions",
            summary="Hashed embeddings of pieces and words, trained from nothing: fast on processors",
            families=("other",),
            exportable=True,
        ),
    ]
