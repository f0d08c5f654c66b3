"""What this plugin offers; imports nothing heavy."""

from __future__ import annotations

from mlclf.plugins import ComponentSpec, hookimpl

MLCLF_PLUGIN_API = (1, 0)


@hookimpl
def mlclf_strategies() -> list[ComponentSpec]:
    """Return the one strategy."""
    return [
        ComponentSpec(
            name="norms:ln-tuning",
            target="mlclf_norms.strategy:NormStrategy",
            options="mlclf_norms.strategy:NormOptions",
            summary="Train normalisation layers only",
            families=("encoder", "causal-lm", "masked-lm", "other"),
            exportable=True,
        )
    ]
