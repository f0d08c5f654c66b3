"""Export: a fitted model as a folder that predicts without torch, proven to agree before it is put in place."""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mlclf._version import __version__
from mlclf.exceptions import ExportError, MlclfError
from mlclf.files import replace_folder
from mlclf.inference import dense_probabilities
from mlclf.metrics import score
from mlclf.model import Model
from mlclf.onnx.checks import calibration_table, check_packages, check_parts, check_target
from mlclf.onnx.entries import LABELS_OUTPUT, OUTPUTS, Base, Golden, GraphRule, ModelNames, Precision, TextRule
from mlclf.onnx.export_report import ExportReport, Figures, ValidationFigures
from mlclf.onnx.folder import GRAPH_NAME, README_NAME, TOKENIZER_NAME, WEIGHTS_NAME
from mlclf.onnx.golden import golden_texts, varied_texts
from mlclf.onnx.graph import ExportableNetwork, merged_copy, reason, set_thresholds, write_graph
from mlclf.onnx.manifest import OnnxManifest
from mlclf.onnx.original import check_base, exported_model
from mlclf.onnx.outputs import check_outputs
from mlclf.onnx.parity import Reference, calibration_slack, check_parity
from mlclf.onnx.precision import check_opset, check_precision, min_onnxruntime, quantize_weights, to_half
from mlclf.onnx.readme import readme
from mlclf.onnx.session import OnnxClassifier
from mlclf.rows import Rows
from mlclf.thresholds import RULES, Thresholds, tune

logger = logging.getLogger(__name__)

_PACKAGES = (
    *("torch", "transformers", "peft", "tokenizers", "numpy"),
    *("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu"),
)

# By how much a probability of a golden text may differ on another machine: kernels differ, and not every processor
# multiplies whole numbers.
_GOLDEN_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}

# Every architecture exports with it, and every supported onnxruntime runs it.
_SAFE_OPSET = 20

# Validation texts that are also compared text by text.
_COMPARED = 256


@dataclass(frozen=True)
class ExportRequest:
    """What is to be written.

    Parameters
    ----------
    precision : {"fp32", "fp16", "int8"}
    opset : int
    labels_output : bool
        Whether the graph decides about labels too.
    example_texts : sequence of str or None
        Texts to compare on; None takes built-in ones.
    validation : Rows or None
        Labelled rows to measure quality on.
    base : {"fitted", "original"}
        Whether pretrained weights that were rounded for training stay rounded.
    """

    precision: Precision = "fp32"
    opset: int = _SAFE_OPSET
    labels_output: bool = False
    example_texts: Sequence[str] | None = None
    validation: Rows | None = None
    base: Base = "fitted"


def export_model(model: Model, folder: Path, request: ExportRequest) -> ExportReport:
    """Write a fitted model as an exported folder.

    The model itself is left as it is, whether the export succeeds or not.

    Parameters
    ----------
    model : Model
    folder : Path
        New, or an exported model that is replaced once the new one is complete and proven.
    request : ExportRequest

    Returns
    -------
    ExportReport

    Raises
    ------
    OptionsError, IncompatibleComponentsError, MissingExtraError
        Before any work.
    NotMergeableError, ExportError
        If the graph cannot be made.
    ParityError
        If the exported model disagrees with the fitted one; nothing is left behind.
    """
    check_precision(request.precision)
    check_opset(request.opset)
    check_target(folder)
    check_parts(model.parts)
    calibration_table(model)
    check_base(model, request.base, validated=request.validation is not None)
    check_packages()
    started = time.perf_counter()
    with replace_folder(folder) as work:
        logger.info("Writing the graph (%s, opset %d).", request.precision, request.opset)
        exported = exported_model(model, request.base)
        _write_graph(exported, work / GRAPH_NAME, request)
        _write_tokenizer(exported, work / TOKENIZER_NAME)
        report = _prove(model, exported, work, request)
    return replace(report, folder=folder, seconds=time.perf_counter() - started)


def _write_graph(model: Model, path: Path, request: ExportRequest) -> None:
    """Write the graph in the precision that is asked for."""
    network = merged_copy(model.network, model.strategy)
    if request.precision == "fp16":
        to_half(network)
    thresholds = model.thresholds.for_labels(model.labels.n_labels) if request.labels_output else None
    write_graph(ExportableNetwork(network, calibration_table(model), thresholds).eval(), path, request.opset)
    if request.precision == "int8":
        quantize_weights(path)


def _write_tokenizer(model: Model, path: Path) -> None:
    """Write the tokenizer without truncation and padding, which are the manifest's."""
    tokenizer = Tokenizer.from_str(model.encoder.tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(path))


def _prove(model: Model, exported: Model, work: Path, request: ExportRequest) -> ExportReport:
    """Load the folder as a user will, compare it with the model, and write down what was found."""
    manifest = _manifest(model, request).write(work)
    reference = _reference(exported, _texts(model, request))
    with _graph_must_run(request):
        runtime = OnnxClassifier(work, "cpu")
        parity = check_parity(reference, runtime, request.precision)
    same_function = request.precision == "fp32" and exported is model
    validation, thresholds, metrics = _validated(model, runtime, request, same_function=same_function)
    if thresholds != model.thresholds and request.labels_output:
        set_thresholds(work / GRAPH_NAME, thresholds)
    proven = replace(
        manifest,
        thresholds=thresholds,
        metrics=metrics,
        parity=parity.to_json(request.precision),
        golden=_golden(runtime, request.precision),
    )
    golden = proven.golden
    check_outputs(work / GRAPH_NAME, work / TOKENIZER_NAME, proven, golden.texts, golden.probabilities)
    (work / README_NAME).write_text(readme(proven), encoding="utf-8")
    proven.write(work)
    OnnxClassifier(work, "cpu", selftest=True)
    return ExportReport(
        folder=work,
        precision=request.precision,
        opset=request.opset,
        merged=model.strategy.capabilities.merge != "no",
        base=request.base,
        size=sum((work / name).stat().st_size for name in (GRAPH_NAME, WEIGHTS_NAME) if (work / name).is_file()),
        parity=parity,
        validation=validation,
        seconds=0.0,
    )


def _reference(model: Model, texts: list[str]) -> Reference:
    """Return the fitted model's answers, and how sensitive they are to the last digit of a probability."""
    raw = dense_probabilities(model.network, model.dataset(texts), model.labels.n_labels, model.device)
    slack = calibration_slack(calibration_table(model), raw)
    return Reference(texts, model.labels.names, model.calibrated(raw), model.thresholds, slack)


@contextmanager
def _graph_must_run(request: ExportRequest) -> Iterator[None]:
    """Turn the errors of onnxruntime, which have no class in common, into one that says what to do."""
    try:
        yield
    except MlclfError:
        raise
    except Exception as error:
        raise ExportError(
            f"The graph was written, but onnxruntime cannot run it: {reason(error)} Nothing was left behind. "
            + (f"Use opset={_SAFE_OPSET}." if request.opset != _SAFE_OPSET else "Use another opset or precision.")
        ) from error


def _texts(model: Model, request: ExportRequest) -> list[str]:
    """Return the texts to compare on: the user's, validation texts, and always the tricky ones."""
    max_length = model.encoder.max_length
    given = [] if request.example_texts is None else list(request.example_texts)
    if request.validation is not None:
        given += request.validation.texts[:_COMPARED]
    return [*given, *golden_texts(max_length)] if given else varied_texts(max_length)


def _validated(
    model: Model, runtime: OnnxClassifier, request: ExportRequest, *, same_function: bool
) -> tuple[ValidationFigures | None, Thresholds, dict[str, Any]]:
    """Measure quality before and after, and tune thresholds again where the exported model answers otherwise.

    Parameters
    ----------
    model : Model
        The fitted one.
    runtime : OnnxClassifier
        The exported one.
    request : ExportRequest
    same_function : bool
        Whether they should differ by rounding of float32 alone.

    Returns
    -------
    figures : ValidationFigures or None
    thresholds : Thresholds
        For the exported folder.
    metrics : dict
        Report for its manifest: that of the fit, or a new one where it is another function.
    """
    rows, thresholds = request.validation, model.thresholds
    if rows is None:
        return None, thresholds, model.metrics
    before = model.bounded_probabilities(rows.texts, rows.targets)
    after = runtime.predict_proba(rows.texts)
    again = None
    if not same_function and thresholds.rule in RULES:
        thresholds = tune(thresholds.rule, after, rows.targets).limited(thresholds.top_k)
        again = _figures(after, rows, thresholds)
    figures = ValidationFigures(
        n_samples=len(rows.texts),
        fitted=_figures(before, rows, model.thresholds),
        exported=_figures(after, rows, model.thresholds),
        tuned_again=again,
    )
    if request.base == "fitted":
        return figures, thresholds, model.metrics
    return figures, thresholds, score(after, rows.targets, thresholds, names=model.labels.names).to_dict()


def _figures(probabilities: Any, rows: Rows, thresholds: Thresholds) -> Figures:
    report = score(probabilities, rows.targets, thresholds)
    return Figures(report.micro_f1, report.macro_f1)


def _golden(runtime: OnnxClassifier, precision: Precision) -> Golden:
    texts = golden_texts(runtime.manifest_.text.max_length)
    return Golden(texts, runtime.predict_proba(texts), _GOLDEN_TOLERANCE[precision])


def _manifest(model: Model, request: ExportRequest) -> OnnxManifest:
    """Return the manifest without what is yet to be measured."""
    backbone, names, source = model.network.backbone, model.parts.names, model.network.backbone.source()
    return OnnxManifest(
        mlclf=__version__,
        model=ModelNames(
            backbone=names["backbone"],
            strategy=names["strategy"],
            head=names["head"],
            # A folder's path is this machine's business.
            backbone_source=Path(source.name).name if source.kind == "folder" else source.name,
        ),
        labels=model.labels.names,
        y_format=model.y_format,
        thresholds=model.thresholds,
        calibrator=calibration_table(model),
        text=TextRule(
            max_length=model.encoder.max_length,
            window_stride=model.encoder.window_stride,
            window_aggregation=backbone.window_aggregation,
            pad_id=backbone.pad_id,
            padding_side=backbone.padding_side,
        ),
        graph=GraphRule(
            opset=request.opset,
            precision=request.precision,
            outputs=(*OUTPUTS, LABELS_OUTPUT) if request.labels_output else OUTPUTS,
            min_onnxruntime=min_onnxruntime(request.precision, request.opset),
        ),
        parity={},
        golden=Golden((), np.zeros((0, model.labels.n_labels), dtype=np.float32), 0.0),
        metrics=model.metrics,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
