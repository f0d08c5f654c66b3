"""A small exported folder, made without torch, and what it should answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mlclf.calibration import PlattScaling
from mlclf.encoding import TextEncoder
from mlclf.onnx.manifest import Golden, OnnxManifest, TextRule
from mlclf.testing import tiny_texts, tiny_tokenizer
from mlclf.testing.exported import HIDDEN, tiny_graph, tiny_manifest, tiny_weights

LABELS = ("animals", "food", "weather", 7)
TEXTS = [*tiny_texts(40, seed=3), "", "naïve café 猫 🐈", "cat " * 60, "dog " * 23 + "soup"]
PLAIN = TextRule(max_length=32, window_stride=None, window_aggregation="max", pad_id=0, padding_side="right")
CALIBRATOR = PlattScaling(np.array([1.5, 0.5, 1, 2]), np.array([0.25, -1, 0, 0.5]))


def with_labels(graph: onnx.ModelProto, n_labels: int) -> onnx.ModelProto:
    """The same graph with fewer labels."""
    for tensor in graph.graph.initializer:
        if tensor.name in ("matrix", "bias"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[..., :n_labels], tensor.name))
    for output in graph.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = n_labels
    return graph


def to_int8(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with 8-bit weights in blocks of 32, as the export writes them."""
    _, matrix, _ = tiny_weights()
    scales = np.abs(matrix).max(axis=0) / 127
    packed = np.full((len(LABELS), 1, 32), 128, dtype=np.uint8)
    packed[:, 0, :HIDDEN] = np.round(matrix / scales).T + 128
    for name, value in (("packed", packed), ("scales", scales.astype(np.float32))):
        graph.graph.initializer.append(numpy_helper.from_array(value, name))
    sizes = {"K": HIDDEN, "N": len(LABELS), "bits": 8, "block_size": 32, "accuracy_level": 4}
    inputs = ["pooled", "packed", "scales"]
    nodes = [
        helper.make_node("MatMulNBits", inputs, ["product"], domain="com.microsoft", **sizes),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    place = next(i for i, node in enumerate(graph.graph.node) if node.op_type == "Gemm")
    graph.graph.node.pop(place)
    for offset, node in enumerate(nodes):
        graph.graph.node.insert(place + offset, node)
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return graph


def expected(
    texts: Sequence[str], rule: TextRule = PLAIN, calibrator: PlattScaling | None = None
) -> NDArray[np.float32]:
    """Probabilities of texts, each computed by itself in double precision."""
    vectors, matrix, bias = (array.astype(np.float64) for array in tiny_weights())
    encoded = TextEncoder(tiny_tokenizer(), rule.max_length, rule.window_stride).encode(texts)
    bounds = encoded.window_offsets
    pooled = [vectors[encoded.ids[a:b]].mean(axis=0) for a, b in itertools.pairwise(bounds)]
    logits = np.stack(pooled) @ matrix + bias
    reduce = np.max if rule.window_aggregation == "max" else np.mean
    ends = np.cumsum(encoded.windows_per_sample)
    joined = np.stack([reduce(part, axis=0) for part in np.split(logits, ends[:-1])])
    raw = (1 / (1 + np.exp(-joined))).astype(np.float32)
    return raw if calibrator is None else calibrator.apply(raw)


def make_manifest(**changes: Any) -> OnnxManifest:
    """The manifest of the graph, with some of its fields changed."""
    if "graph_rule" in changes:
        changes["graph"] = changes.pop("graph_rule")
    rule, calibrator = changes.get("text", PLAIN), changes.get("calibrator")
    if "golden" not in changes:
        texts = tuple(TEXTS[-6:])
        changes["golden"] = Golden(texts, expected(texts, rule, calibrator), 1e-4)
    fields = {"labels": LABELS, "parity": {"measured": {"max": 2e-7}, "n_rows": 64}, **changes}
    return replace(tiny_manifest(), **fields)


def write_folder(folder: Path, graph: onnx.ModelProto | None = None, **changes: Any) -> Path:
    """Write an exported folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(tiny_graph() if graph is None else graph, folder / "model.onnx")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text("A tiny model.\n", encoding="utf-8")
    make_manifest(**changes).write(folder)
    return folder
