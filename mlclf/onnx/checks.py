"""Everything for which an export is refused, before it costs any time."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from mlclf.calibration import PlattScaling
from mlclf.exceptions import IncompatibleComponentsError, MissingExtraError
from mlclf.files import check_replaceable
from mlclf.interfaces import Backbone, LogitsHead
from mlclf.model import Model
from mlclf.onnx.folder import MANIFEST_NAME
from mlclf.onnx.manifest import FORMAT
from mlclf.parts import Parts
from mlclf.plugins.builtins import BUILTINS
from mlclf.plugins.spec import Kind

# What the runtime repeats without torch, and a component must therefore not do in a way of its own.
_REPEATED: dict[Kind, tuple[type, tuple[str, ...]]] = {
    "backbone": (Backbone, ("encode", "collate", "aggregate_windows")),
    "head": (LogitsHead, ("encode", "collate", "logits", "probabilities")),
}

# What serves a head that answers in tokens.
_ENGINE = (
    " For a serving engine such as vLLM, write the merged model and its prompt with merge_and_save(folder): "
    "docs/serving.md."
)

# Needed beside torch: by the export, by its proof, and by the proof again.
_PACKAGES = {"onnx": "train", "onnxscript": "train", "onnxruntime": "onnx"}


def check_packages() -> None:
    """Refuse where a package is missing that the export or its proof needs.

    Raises
    ------
    MissingExtraError
        Naming the package and the extra.
    """
    for package, extra in _PACKAGES.items():
        if importlib.util.find_spec(package) is None:
            reason = "runs the exported model against the fitted one" if extra == "onnx" else "writes ONNX"
            raise MissingExtraError(
                f"export_onnx {reason} and needs {package!r}, which is not installed. "
                f"Install it: pip install 'mlclf[{extra}]'"
            )


def check_target(folder: Path) -> None:
    """Refuse a folder that is something else than an exported model, because it would be replaced whole.

    Raises
    ------
    OptionsError
    """
    check_replaceable(folder, ours=_is_exported(folder), what="an exported model")


def _is_exported(folder: Path) -> bool:
    """Say whether a folder has the manifest of an exported model."""
    try:
        content = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def check_parts(parts: Parts) -> None:
    """Refuse components that ONNX, or a program without torch, cannot repeat.

    Parameters
    ----------
    parts : Parts
        Components of a fitted model.

    Raises
    ------
    IncompatibleComponentsError
        Naming the component, the reason, and what to use instead.
    """
    head = parts.head_capabilities
    _refuse_declared("backbone", parts.names["backbone"], parts.backbone_class.exportable)
    _refuse_declared("strategy", parts.names["strategy"], parts.strategy_capabilities.export)
    _refuse_declared("head", parts.names["head"], head.export, _ENGINE if head.vocabulary else "")
    if not issubclass(parts.head_class, LogitsHead):
        raise IncompatibleComponentsError(
            f"Head {parts.names['head']!r} gives no logits, and the graph's outputs are logits and their sigmoid. "
            f"{_instead('head')}"
        )
    _refuse_overridden("backbone", parts.names["backbone"], parts.backbone_class)
    _refuse_overridden("head", parts.names["head"], parts.head_class)


def calibration_table(model: Model) -> PlattScaling | None:
    """Return a model's calibration in the one form that programs without torch and plugins know.

    Parameters
    ----------
    model : Model

    Raises
    ------
    IncompatibleComponentsError
        If its calibrator has no such form.
    """
    if model.calibrator is None:
        return None
    table = model.calibrator.table_for(model.labels.n_labels)
    if table is None:
        raise IncompatibleComponentsError(
            f"Calibrator {model.calibrator.options.component!r} has no table of a scale and an offset for each label, "
            "which is all that an exported model knows of calibration. Fit the model with calibration='platt' or "
            "calibration=None, or serve the saved model."
        )
    return table


def _refuse_declared(kind: Kind, name: str, exportable: bool, further: str = "") -> None:
    if not exportable:
        raise IncompatibleComponentsError(
            f"{kind.capitalize()} {name!r} declares that it cannot be exported to ONNX. {_instead(kind)}{further}"
        )


def _refuse_overridden(kind: Kind, name: str, component: type) -> None:
    base, methods = _REPEATED[kind]
    for method in methods:
        if getattr(component, method) is not getattr(base, method):
            raise IncompatibleComponentsError(
                f"{kind.capitalize()} {name!r} has a method {method!r} of its own, which programs without torch do not "
                f"have: their answers would differ. {_instead(kind)}"
            )


def _instead(kind: Kind) -> str:
    """Name the built-in components that can be exported."""
    names = ", ".join(repr(spec.name) for spec in BUILTINS[kind] if spec.exportable is not False)
    return f"Use one that can: {names}."
