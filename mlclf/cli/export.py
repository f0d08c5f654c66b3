"""``mlclf export``: a saved model as an ONNX folder, or as a model of a Triton repository."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlclf.cli.options import IndicatorColumns, Json, LabelColumn, LabelSeparator, ModelArgument, TextColumn
from mlclf.cli.output import messages_to_stderr, results_only, write_json
from mlclf.datasets import load

if TYPE_CHECKING:
    from mlclf.onnx.export_report import ExportReport


class Precision(StrEnum):
    """Of the weights."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class Base(StrEnum):
    """Of pretrained weights that were rounded for training."""

    fitted = "fitted"
    original = "original"


class Layout(StrEnum):
    """What is written."""

    bundle = "bundle"
    triton = "triton"


def export(
    model: ModelArgument,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder to write; a repository for triton.")],
    precision: Annotated[Precision, typer.Option(help="Of the weights.")] = Precision.fp32,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 18 to 23.")] = 20,
    labels_output: Annotated[
        bool, typer.Option("--labels-output", help="Give the graph an output with the labels, too.")
    ] = False,
    validation_data: Annotated[
        Path | None, typer.Option(help="Labelled rows to measure F1 on, before and after.")
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    indicator_columns: IndicatorColumns = None,
    base: Annotated[
        Base, typer.Option(help="Pretrained weights as rounded for training (qlora), or the original ones.")
    ] = Base.fitted,
    layout: Annotated[
        Layout, typer.Option(help="An exported folder, or a model of a Triton repository.")
    ] = Layout.bundle,
    name: Annotated[str, typer.Option(help="Name of the model with --layout triton.")] = "classifier",
    as_json: Json = False,
) -> None:
    """Write a model as ONNX, to be used without torch, and prove that it agrees."""
    with results_only() as results, messages_to_stderr(logging.WARNING):
        target = bundle if layout is Layout.bundle else _triton_folder(bundle, name)
        validation = None
        if validation_data is not None:
            rows = load(
                validation_data,
                text_column=text_column or "text",
                label_column=label_column or "labels",
                indicator_columns=indicator_columns or None,
                label_separator=label_separator or ";",
            )
            validation = (rows.texts, rows.labels)
        from mlclf import MultiLabelClassifier

        classifier = MultiLabelClassifier.load(model, device="cpu")
        write = partial(
            classifier.export_onnx,
            precision=precision.value,
            opset=opset,
            labels_output=labels_output,
            validation_data=validation,
            base=base.value,
        )
        report = write(bundle) if layout is Layout.bundle else _write_triton(write, bundle, name)
        report = replace(report, folder=target)
        if as_json:
            write_json(report.to_dict(), results)
        else:
            results.write(f"{report}\n")


def _triton_folder(repository: Path, name: str) -> Path:
    """Return the folder of a model in a repository, or refuse it before the work starts."""
    from mlclf.onnx.triton import triton_folder

    return triton_folder(repository, name)


def _write_triton(write: Callable[[Path], ExportReport], repository: Path, name: str) -> ExportReport:
    """Export to a place of its own, and put the result into the repository."""
    from mlclf.onnx.triton import write_triton

    with tempfile.TemporaryDirectory(prefix="mlclf-export-") as folder:
        report = write(Path(folder) / "bundle")
        write_triton(report.folder, repository, name)
    return report
