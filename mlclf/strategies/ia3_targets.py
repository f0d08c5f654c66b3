"""Which linear layers of a backbone get learned factors."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlclf.exceptions import IncompatibleComponentsError, UnsuitableComponentError
from mlclf.interfaces import Backbone
from mlclf.strategies.linear_runs import LayerRuns, LinearRun, find_layer_sites, layer_runs
from mlclf.strategies.lora_targets import Layers, chosen_layers

_OWNER = "Ia3Options"
# What architectures call the matrices of keys and values; a fused matrix (ModernBERT's Wqkv, GPT-2's c_attn) has both.
_KEY_OR_VALUE = re.compile(r"(^|\.)((k|v|key|value)(_lin|_proj)?|\w*(qkv|query_key_value|c_attn)\w*)$", re.IGNORECASE)
_FEEDFORWARD_REMEDY = f"Name the linear layers whose inputs are to be scaled by {_OWNER}(feedforward=(...))."


@dataclass(frozen=True)
class Ia3Targets:
    """Names in ``backbone.model`` of linear layers.

    Parameters
    ----------
    attention : tuple of str
        Their outputs are scaled.
    feedforward : tuple of str
        Their inputs are scaled.
    """

    attention: tuple[str, ...]
    feedforward: tuple[str, ...]


def find_ia3_targets(
    backbone: Backbone, layers: Layers, attention: tuple[str, ...] | None, feedforward: tuple[str, ...] | None
) -> Ia3Targets:
    """Return the linear layers that get learned factors.

    Parameters
    ----------
    backbone : Backbone
        Loaded.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest.
    attention, feedforward : tuple of str or None
        Ends of names instead of those that are found.

    Raises
    ------
    IncompatibleComponentsError
        If there are no such linear layers, or no such layer of the stack.
    """
    chosen = set(chosen_layers(backbone.n_layers, layers, owner=_OWNER))
    wanted = [layer for layer in layer_runs(backbone) if layer.number is None or layer.number in chosen]
    if not wanted:
        raise UnsuitableComponentError(
            f"Strategy 'ia3' found no layers with attention in backbone {backbone.options.component!r}."
        )
    outputs = [run for layer in wanted for run in _scaled_outputs(layer, attention)]
    inputs = [run for layer in wanted for run in _scaled_inputs(layer, feedforward, backbone.hidden_size)]
    return Ia3Targets(_names(outputs), _names(inputs))


def _scaled_outputs(layer: LayerRuns, suffixes: tuple[str, ...] | None) -> list[LinearRun]:
    if suffixes is not None:
        return [layer.ending(suffix, f"{_OWNER}(attention={suffixes!r})") for suffix in suffixes]
    found = [run for run in layer.runs if run.in_attention and _KEY_OR_VALUE.search(run.inner)]
    if not found:
        raise IncompatibleComponentsError(
            "The linear layers of keys and values cannot be told by their names. A layer of this backbone runs: "
            f"{', '.join(run.inner for run in layer.runs)}. Name those whose outputs are to be scaled by "
            f"{_OWNER}(attention=(...))."
        )
    return found


def _scaled_inputs(layer: LayerRuns, suffixes: tuple[str, ...] | None, hidden_size: int) -> list[LinearRun]:
    if suffixes is not None:
        return [layer.ending(suffix, f"{_OWNER}(feedforward={suffixes!r})") for suffix in suffixes]
    return [find_layer_sites(layer, hidden_size, _FEEDFORWARD_REMEDY).ffn_output]


def _names(runs: list[LinearRun]) -> tuple[str, ...]:
    """Return names, each once: layers that share weights run them several times."""
    return tuple(dict.fromkeys(run.name for run in runs))
