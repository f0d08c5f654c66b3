"""The parts of an exported folder's manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mlclf.onnx.fields import Fields, is_number

Precision = Literal["fp32", "fp16", "int8"]
# Whether pretrained weights that were rounded for training stay rounded.
Base = Literal["fitted", "original"]
Aggregation = Literal["max", "mean"]
PaddingSide = Literal["left", "right"]

INPUTS = ("input_ids", "attention_mask")
INPUT_TYPE = "int64"
OUTPUTS = ("logits", "probabilities")
LABELS_OUTPUT = "labels"

_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True)
class ModelNames:
    """What the graph was made from, for people to read; nothing is ever looked up or imported by these names.

    Parameters
    ----------
    backbone, strategy, head : str
        Registered names of the components.
    backbone_source : str
        Model id, folder or package of the pretrained weights.
    """

    backbone: str
    strategy: str
    head: str
    backbone_source: str

    @classmethod
    def read(cls, fields: Fields) -> ModelNames:
        """Take the names out of the manifest."""
        names = cls(*(fields.text(name) for name in ("backbone", "strategy", "head", "backbone_source")))
        fields.finish()
        return names


@dataclass(frozen=True)
class TextRule:
    """How a text becomes rows of the graph's inputs.

    Parameters
    ----------
    max_length : int
        Tokens of a row, special tokens included.
    window_stride : int or None
        None cuts a longer text; a number splits it into windows that overlap by this many tokens.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.
    pad_id : int
        Token id of padding.
    padding_side : {"left", "right"}
    """

    max_length: int
    window_stride: int | None
    window_aggregation: Aggregation
    pad_id: int
    padding_side: PaddingSide

    @classmethod
    def read(cls, fields: Fields) -> TextRule:
        """Take the rule out of the manifest."""
        rule = cls(
            max_length=fields.whole("max_length", least=1),
            window_stride=fields.whole_or_none("window_stride", least=0),
            window_aggregation=cast("Aggregation", fields.choice("window_aggregation", get_args(Aggregation))),
            pad_id=fields.whole("pad_id", least=0),
            padding_side=cast("PaddingSide", fields.choice("padding_side", get_args(PaddingSide))),
        )
        fields.finish()
        return rule


@dataclass(frozen=True)
class GraphRule:
    """What the graph is.

    Parameters
    ----------
    opset : int
    precision : {"fp32", "fp16", "int8"}
        Of the weights; inputs and outputs have the same types in every precision.
    outputs : tuple of str
        ``("logits", "probabilities")``, and ``"labels"`` where it was asked for.
    min_onnxruntime : str
        Oldest version of onnxruntime that reads the opset: ``"1.20"``.
    inputs : tuple of str
        In this version of the format always ``("input_ids", "attention_mask")``.
    input_type : str
        In this version of the format always ``"int64"``.
    """

    opset: int
    precision: Precision
    outputs: tuple[str, ...]
    min_onnxruntime: str
    inputs: tuple[str, ...] = INPUTS
    input_type: str = INPUT_TYPE

    @classmethod
    def read(cls, fields: Fields) -> GraphRule:
        """Take the rule out of the manifest."""
        rule = cls(
            opset=fields.whole("opset", least=1),
            precision=cast("Precision", fields.choice("precision", get_args(Precision))),
            outputs=fields.texts("outputs"),
            min_onnxruntime=fields.text("min_onnxruntime"),
            inputs=fields.texts("inputs"),
            input_type=fields.choice("input_type", (INPUT_TYPE,)),
        )
        if rule.inputs != INPUTS:
            fields.refuse("inputs", f"be {list(INPUTS)}", list(rule.inputs))
        if rule.outputs not in (OUTPUTS, (*OUTPUTS, LABELS_OUTPUT)):
            fields.refuse("outputs", f"be {list(OUTPUTS)}, with or without {LABELS_OUTPUT!r}", list(rule.outputs))
        if not _VERSION.fullmatch(rule.min_onnxruntime):
            fields.refuse("min_onnxruntime", "be a version such as '1.20'", rule.min_onnxruntime)
        fields.finish()
        return rule


@dataclass(frozen=True, eq=False)
class Golden:
    """Texts with the probabilities that the exported folder gave for them, to be asked again where it is used.

    Parameters
    ----------
    texts : tuple of str, length n_texts
    probabilities : ndarray of float32, shape (n_texts, n_labels)
        Calibrated, as ``predict_proba`` gives them.
    tolerance : float
        Largest difference that is no error.
    """

    texts: tuple[str, ...]
    probabilities: NDArray[np.float32]
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """Return the content of the manifest's field ``golden``."""
        rows = [[float(p) for p in row] for row in self.probabilities]
        return {"texts": list(self.texts), "probabilities": rows, "tolerance": self.tolerance}

    @classmethod
    def read(cls, fields: Fields, n_labels: int) -> Golden:
        """Take texts and probabilities out of the manifest."""
        texts = fields.texts("texts")
        rows = fields.take("probabilities")
        well_formed = (
            isinstance(rows, list)
            and len(rows) == len(texts)
            and all(isinstance(row, list) and len(row) == n_labels and all(map(is_number, row)) for row in rows)
        )
        if not well_formed:
            fields.refuse("probabilities", f"be {len(texts)} lists of {n_labels} numbers, one list a text", rows)
        golden = cls(texts, np.array(rows, dtype=np.float32).reshape(len(texts), n_labels), fields.number("tolerance"))
        fields.finish()
        return golden


@dataclass(frozen=True)
class FileEntry:
    """Checksum and size of a file.

    Parameters
    ----------
    sha256 : str
        64 hexadecimal digits.
    bytes : int
    """

    sha256: str
    bytes: int

    @classmethod
    def read(cls, fields: Fields) -> FileEntry:
        """Take checksum and size out of the manifest."""
        entry = cls(fields.text("sha256"), fields.whole("bytes", least=0))
        if not re.fullmatch("[0-9a-f]{64}", entry.sha256):
            fields.refuse("sha256", "be 64 hexadecimal digits", entry.sha256)
        fields.finish()
        return entry
