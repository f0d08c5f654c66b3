"""Tools for testing plugins and programs that use mlclf: the conformance kit, and models that need no network."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlclf.testing.plugin_env import PluginEnv, plugin_env

if TYPE_CHECKING:
    from mlclf.testing.conformance.pytest_marks import parametrize_plugin_checks
    from mlclf.testing.conformance.results import CheckResult, ConformanceReport, NotApplicable
    from mlclf.testing.conformance.running import Check, check_plugin, component_checks, plugin_checks, run_checks
    from mlclf.testing.decoders import random_llama, tiny_decoder
    from mlclf.testing.exported import tiny_exported
    from mlclf.testing.fakes import tiny_encoder, tiny_labels, tiny_masked_lm, tiny_texts, tiny_tokenizer
    from mlclf.testing.source_tree import project_manager
    from mlclf.testing.tiny_backbone import TinyBackbone, TinyOptions

# Where the names live. They are resolved on first use, so that fakes without torch can be had without torch.
_HOMES = {
    "Check": "mlclf.testing.conformance.running",
    "CheckResult": "mlclf.testing.conformance.results",
    "ConformanceReport": "mlclf.testing.conformance.results",
    "NotApplicable": "mlclf.testing.conformance.results",
    "TinyBackbone": "mlclf.testing.tiny_backbone",
    "TinyOptions": "mlclf.testing.tiny_backbone",
    "check_plugin": "mlclf.testing.conformance.running",
    "component_checks": "mlclf.testing.conformance.running",
    "parametrize_plugin_checks": "mlclf.testing.conformance.pytest_marks",
    "plugin_checks": "mlclf.testing.conformance.running",
    "project_manager": "mlclf.testing.source_tree",
    "random_llama": "mlclf.testing.decoders",
    "run_checks": "mlclf.testing.conformance.running",
    "tiny_decoder": "mlclf.testing.decoders",
    "tiny_encoder": "mlclf.testing.fakes",
    "tiny_exported": "mlclf.testing.exported",
    "tiny_labels": "mlclf.testing.fakes",
    "tiny_masked_lm": "mlclf.testing.fakes",
    "tiny_texts": "mlclf.testing.fakes",
    "tiny_tokenizer": "mlclf.testing.fakes",
}

__all__ = [
    "Check",
    "CheckResult",
    "ConformanceReport",
    "NotApplicable",
    "PluginEnv",
    "TinyBackbone",
    "TinyOptions",
    "check_plugin",
    "component_checks",
    "parametrize_plugin_checks",
    "plugin_checks",
    "plugin_env",
    "project_manager",
    "random_llama",
    "run_checks",
    "tiny_decoder",
    "tiny_encoder",
    "tiny_exported",
    "tiny_labels",
    "tiny_masked_lm",
    "tiny_texts",
    "tiny_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlclf.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
