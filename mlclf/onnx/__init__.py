"""Export to ONNX, and prediction from an exported folder without torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlclf.onnx.manifest import OnnxManifest
    from mlclf.onnx.session import OnnxClassifier

__all__ = ["OnnxClassifier", "OnnxManifest"]

# Resolved on first use: the export needs torch, prediction does not.
_HOMES = {
    "OnnxClassifier": "mlclf.onnx.session",
    "OnnxManifest": "mlclf.onnx.manifest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlclf.onnx' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
