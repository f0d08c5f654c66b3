"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_heads() -> list[ComponentSpec]:
    """Return the one head."""
    return [
        ComponentSpec(
            name="label-descriptions:bi-encoder",
            target="mlclf_label_descriptions.head:BiEncoderHead",
            options="mlclf_label_descriptions.options:BiEncoderOptions",
            summary="Similarity of a text to each label's name or description; zero-shot",
            families=("encoder", "causal-lm", "masked-lm", "other"),
            exportable=True,
        )
    ]
