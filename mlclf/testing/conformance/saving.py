"""Checks of saved and exported models."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
from packaging.utils import canonicalize_name

from mlclf.bundle.manifest import CARD_NAME
from mlclf.classifier import MultiLabelClassifier
from mlclf.exceptions import ConformanceError, IncompatibleComponentsError, MissingPluginError
from mlclf.onnx.checks import check_parts
from mlclf.plugins import PluginManager, use_manager
from mlclf.plugins.spec import LOCAL_ID, plugin_id_of
from mlclf.testing.conformance.partners import Case
from mlclf.testing.conformance.results import NotApplicable
from mlclf.testing.conformance.workbench import Workbench, disturbed_copy
from mlclf.testing.fakes import tiny_texts

_SUFFIXES = {".safetensors", ".json"}
_ROUNDING = 1e-6


def check_save_and_load(bench: Workbench) -> None:
    """A saved model is loaded with the same answers, and is made of .safetensors, .json and its README.md alone."""
    for case in bench.cases:
        clf = disturbed_copy(bench.fitted(case))
        folder = bench.session.folder("saved")
        _compare(clf, folder, case)
        _compare(clf, folder, case, include_backbone=True)


def _compare(clf: MultiLabelClassifier, folder: Path, case: Case, *, include_backbone: bool = False) -> None:
    """Save and load a classifier, and compare the two."""
    how = f"save(include_backbone={include_backbone})"
    clf.save(folder, include_backbone=include_backbone)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if foreign := sorted(path.name for path in files if path.suffix not in _SUFFIXES and path.name != CARD_NAME):
        raise ConformanceError(
            f"{how} of {case.title} writes {', '.join(foreign)}. save_files may write JSON; tensors go through "
            "state() and state_dict()."
        )
    texts = tiny_texts(6, seed=3)
    change = np.abs(MultiLabelClassifier.load(folder, device="cpu").predict_proba(texts) - clf.predict_proba(texts))
    if not change.max() <= _ROUNDING:
        raise ConformanceError(
            f"After {how} and load, {case.title} answers differently, by {change.max():.1e}. Everything that is not "
            "made anew from options and label counts must be a parameter or a buffer that is saved: of the head in "
            "state_dict(), of the backbone's model in the strategy's state()."
        )


def check_saved_model_names_the_plugin(bench: Workbench) -> str:
    """A saved model lists the plugin with its version; where it is absent, loading says which package to install."""
    folder = bench.session.folder("listed")
    bench.fitted().save(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    listed = [entry["id"] for entry in manifest["plugins"]]
    plugin_id = plugin_id_of(bench.name)
    if plugin_id in (None, LOCAL_ID):
        if plugin_id in listed:
            raise ConformanceError(f"The manifest lists {listed} for a component that belongs to no package.")
        raise NotApplicable("it comes from no plugin's package")
    record = bench.session.manager.record(str(plugin_id))
    if plugin_id not in listed:
        raise ConformanceError(f"The manifest lists the plugins {listed}, without {plugin_id!r}.")
    with use_manager(PluginManager(environ={}, entry_points=[])):
        try:
            MultiLabelClassifier.load(folder, device="cpu")
        except MissingPluginError as error:
            if canonicalize_name(record.package) in canonicalize_name(str(error)):
                return str(error)
            raise ConformanceError(f"The error does not name {record.package}: {error}") from error
    raise ConformanceError(f"The model was loaded without the plugin {plugin_id!r}.")


def check_onnx_parity(bench: Workbench) -> str:
    """A component that declares its export gives the same answers in onnxruntime as in torch."""
    kind = bench.kind
    if not (bench.component.exportable if kind == "backbone" else bench.capabilities.export):
        raise NotApplicable("it declares that it cannot be exported")
    case = _exportable_case(bench)
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        raise NotApplicable(f"{', '.join(absent)} is not installed: pip install 'mlclf[train,onnx]'")
    clf = disturbed_copy(bench.fitted(case))
    clf.set_thresholds(np.quantile(clf.predict_proba(tiny_texts(32)), 0.6, axis=0))
    # The export compares its folder with the model, and raises where they disagree.
    parity = clf.export_onnx(bench.session.folder("exported"), example_texts=tiny_texts(16, seed=4)).parity
    return f"{case.title}: largest change of a probability {parity.max_change:.0e}"


def _exportable_case(bench: Workbench) -> Case:
    """Return the first case whose components can all be exported."""
    own: list[str] = []
    others: list[str] = []
    for case in bench.cases:
        try:
            check_parts(bench.assemble(case).parts)
        except IncompatibleComponentsError as error:
            (own if repr(bench.name) in str(error) else others).append(str(error))
        else:
            return case
    declared = "exportable = False" if bench.kind == "backbone" else "export=False in its capabilities"
    if own:
        raise ConformanceError(f"It declares that it can be exported, and is refused: {own[0]} Set {declared}.")
    raise NotApplicable(f"its partners cannot be exported: {others[0]}")
