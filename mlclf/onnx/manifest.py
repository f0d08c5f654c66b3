"""Manifest of an exported folder: everything that a program needs to run the graph as mlclf does.

``docs/onnx_bundle.md`` describes every field for readers in other languages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from mlclf.calibration import PlattScaling
from mlclf.exceptions import BundleDamagedError, BundleError, BundleVersionError, InvalidInputError
from mlclf.label_forms import YFormat
from mlclf.label_names import Label, checked_names
from mlclf.onnx.entries import (
    INPUT_TYPE,
    INPUTS,
    LABELS_OUTPUT,
    OUTPUTS,
    FileEntry,
    Golden,
    GraphRule,
    ModelNames,
    TextRule,
)
from mlclf.onnx.fields import Fields, read_json
from mlclf.onnx.folder import MANIFEST_NAME, check_files, file_entries, inside
from mlclf.thresholds import Thresholds

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "INPUTS",
    "INPUT_TYPE",
    "LABELS_OUTPUT",
    "OUTPUTS",
    "FileEntry",
    "Golden",
    "GraphRule",
    "ModelNames",
    "OnnxManifest",
    "TextRule",
]

FORMAT = "mlclf-onnx"
FORMAT_VERSION = 1

_Y_KINDS = ("rows", "array", "frame", "sparse-array", "sparse-matrix")
_Y_DTYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "float32", "float64"),
)


@dataclass(frozen=True, eq=False)
class OnnxManifest:
    """Content of ``manifest.json`` in an exported folder.

    Parameters
    ----------
    mlclf : str
        Version that wrote the folder.
    model : ModelNames
    labels : tuple of str or int, length n_labels
        Label names in column order.
    y_format : YFormat
        Form in which ``predict`` answers.
    thresholds : Thresholds
    calibrator : PlattScaling or None
    text : TextRule
    graph : GraphRule
    parity : dict
        What was measured against torch, and what was allowed.
    golden : Golden
    metrics : dict
        Report on the validation rows; empty where there were none.
    versions : dict of str to str
        Packages that the export used.
    files : dict of str to FileEntry
        Every other file of the folder; :meth:`write` fills it in.

    Examples
    --------
    A new folder, as the export writes it:

    >>> import tempfile
    >>> import numpy as np
    >>> from mlclf.onnx.manifest import Golden, GraphRule, ModelNames, OnnxManifest, TextRule
    >>> manifest = OnnxManifest(
    ...     mlclf="1.0",
    ...     model=ModelNames("bert", "lora", "bce", "some/model"),
    ...     labels=("anger", "joy"),
    ...     y_format=YFormat(),
    ...     thresholds=Thresholds.fixed(2),
    ...     calibrator=None,
    ...     text=TextRule(128, None, "max", 0, "right"),
    ...     graph=GraphRule(20, "fp32", OUTPUTS, "1.20"),
    ...     parity={},
    ...     golden=Golden(("so glad",), np.array([[0.25, 0.75]], dtype=np.float32), 1e-3),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("model.onnx", "tokenizer.json"):
    ...         _ = (Path(folder) / name).write_text("content")
    ...     _ = manifest.write(folder)
    ...     OnnxManifest.read(folder).labels
    ('anger', 'joy')
    """

    mlclf: str
    model: ModelNames
    labels: tuple[Label, ...]
    y_format: YFormat
    thresholds: Thresholds
    calibrator: PlattScaling | None
    text: TextRule
    graph: GraphRule
    parity: Mapping[str, Any]
    golden: Golden
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "mlclf": self.mlclf,
            "model": asdict(self.model),
            "labels": list(self.labels),
            "y_format": asdict(self.y_format),
            "thresholds": self.thresholds.to_json(),
            "calibrator": None if self.calibrator is None else self.calibrator.to_json(),
            "text": asdict(self.text),
            "graph": asdict(self.graph),
            "parity": dict(self.parity),
            "golden": self.golden.to_json(),
            "metrics": dict(self.metrics),
            "versions": dict(self.versions),
            "files": {name: asdict(entry) for name, entry in self.files.items()},
        }

    def write(self, folder: str | os.PathLike[str]) -> OnnxManifest:
        """Write ``manifest.json`` beside the files that the folder holds, with their checksums.

        Parameters
        ----------
        folder : path
            Holds everything else already.

        Returns
        -------
        OnnxManifest
            As written.
        """
        written = replace(self, files=file_entries(Path(folder)))
        text = json.dumps(written.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        (Path(folder) / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
        return written

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> OnnxManifest:
        """Read the manifest of an exported folder, and check every field and every file.

        Parameters
        ----------
        folder : path

        Returns
        -------
        OnnxManifest

        Raises
        ------
        BundleError
            If the folder is no exported model.
        BundleVersionError
            If it has a format that this version of mlclf does not know.
        BundleDamagedError
            If the manifest or a file is missing, truncated, altered, or leads out of the folder.
        """
        source = Path(folder)
        if not (source / MANIFEST_NAME).is_file():
            raise BundleError(
                f"{str(source)!r} is not an exported model: it has no {MANIFEST_NAME}. Give the folder that "
                "export_onnx wrote."
            )
        path = inside(source, MANIFEST_NAME)
        content = read_json(path)
        _check_version(path, content)
        manifest = _parsed(Fields(content, str(path)))
        check_files(source, manifest.files)
        return manifest


def _check_version(path: Path, content: Any) -> None:
    """Refuse other documents and formats before looking at their fields."""
    document = content if isinstance(content, dict) else {}
    if document.get("format") != FORMAT:
        hint = " It is a model saved for training: export it with export_onnx." if "components" in document else ""
        raise BundleError(f"{path} is not the manifest of an exported model: its format is not {FORMAT!r}.{hint}")
    version = document.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleVersionError(
            f"{path} has format_version {version!r}; this version of mlclf reads {FORMAT_VERSION}. "
            "Install the version of mlclf that exported it, or a newer one."
        )


def _parsed(fields: Fields) -> OnnxManifest:
    """Check every field of the document."""
    fields.take("format"), fields.take("format_version")
    labels = _labels(fields)
    manifest = OnnxManifest(
        mlclf=fields.text("mlclf"),
        model=ModelNames.read(fields.part("model")),
        labels=labels,
        y_format=_y_format(fields.part("y_format")),
        thresholds=_thresholds(fields, len(labels)),
        calibrator=_calibrator(fields, len(labels)),
        text=TextRule.read(fields.part("text")),
        graph=GraphRule.read(fields.part("graph")),
        parity=fields.mapping("parity"),
        golden=Golden.read(fields.part("golden"), len(labels)),
        metrics=fields.mapping("metrics"),
        versions=_versions(fields),
        files={name: FileEntry.read(entry) for name, entry in fields.parts("files")},
    )
    fields.finish()
    return manifest


def _labels(fields: Fields) -> tuple[Label, ...]:
    value = fields.take("labels")
    if not isinstance(value, list):
        fields.refuse("labels", "be a list of text and whole numbers", value)
    try:
        return checked_names(value)
    except InvalidInputError as error:
        raise BundleDamagedError(f"The labels of the manifest cannot be used: {error}") from error


def _y_format(fields: Fields) -> YFormat:
    form = YFormat(cast("Any", fields.choice("kind", _Y_KINDS)), fields.choice("dtype", _Y_DTYPES))
    fields.finish()
    return form


def _thresholds(fields: Fields, n_labels: int) -> Thresholds:
    part = fields.part("thresholds")
    saved = {
        "rule": part.text("rule"),
        "top_k": part.whole_or_none("top_k", least=1),
        "values": part.numbers("values", (1, n_labels)),
    }
    part.finish()
    return Thresholds.from_json(saved)


def _calibrator(fields: Fields, n_labels: int) -> PlattScaling | None:
    part = fields.part_or_none("calibrator")
    if part is None:
        return None
    saved = {name: part.numbers(name, (n_labels,)) for name in ("scale", "offset")}
    part.finish()
    return PlattScaling.from_json(saved)


def _versions(fields: Fields) -> dict[str, str]:
    versions = fields.mapping("versions")
    if not all(isinstance(version, str) for version in versions.values()):
        fields.refuse("versions", "hold a text for each package", versions)
    return versions
