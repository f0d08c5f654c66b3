"""A small exported folder, made without torch, to test programs that use :class:`mlclf.onnx.OnnxClassifier`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf._version import __version__
from mlclf.encoding import TextEncoder
from mlclf.label_forms import YFormat
from mlclf.onnx.manifest import INPUTS, OUTPUTS, Golden, GraphRule, ModelNames, OnnxManifest, TextRule
from mlclf.probabilities import sigmoid
from mlclf.testing.fakes import tiny_tokenizer
from mlclf.thresholds import Thresholds

LABELS = ("animals", "food", "weather", "travel")
HIDDEN = 8
GOLDEN = ("", "the cat likes bread", "na\u00efve caf\u00e9")


def tiny_exported(folder: str | Path) -> Path:
    """Write an exported folder whose model knows four labels and answers at random, but always the same.

    Its graph is the mean of a vector for each token, and a linear layer. Needs the package ``onnx``.

    Parameters
    ----------
    folder : str or Path
        Folder to write into; created where it is absent.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf.onnx import OnnxClassifier
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = OnnxClassifier(tiny_exported(folder), "cpu", selftest=True)
    >>> model.classes_.tolist()
    ['animals', 'food', 'weather', 'travel']
    """
    import onnx

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(tiny_graph(), folder / "model.onnx")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text("A tiny model for tests.\n", encoding="utf-8")
    tiny_manifest().write(folder)
    return folder


def tiny_weights() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors of the tokens, and matrix and bias of the labels."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(tiny_tokenizer().get_vocab_size(), HIDDEN)).astype(np.float32)
    matrix = 3 * rng.normal(size=(HIDDEN, len(LABELS))).astype(np.float32)
    return vectors, matrix, rng.normal(size=len(LABELS)).astype(np.float32)


def tiny_graph() -> Any:
    """Return the graph as an ``onnx.ModelProto``: padding does not count, and logits become probabilities."""
    from onnx import TensorProto, helper, numpy_helper

    vectors, matrix, bias = tiny_weights()
    tensors = {"vectors": vectors, "matrix": matrix, "bias": bias, "last": np.array([2]), "middle": np.array([1])}
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["states"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["states", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["wide", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["pooled"]),
        helper.make_node("Gemm", ["pooled", "matrix", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in INPUTS]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(LABELS)]) for name in OUTPUTS]
    initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def tiny_manifest() -> OnnxManifest:
    """Return the manifest of the folder; its golden probabilities are computed with NumPy."""
    return OnnxManifest(
        mlclf=__version__,
        model=ModelNames("tiny", "none", "linear", "none"),
        labels=LABELS,
        y_format=YFormat(),
        thresholds=Thresholds.per_label([0.5, 0.25, 0.75, 0.5]),
        calibrator=None,
        text=TextRule(max_length=32, window_stride=None, window_aggregation="max", pad_id=0, padding_side="right"),
        graph=GraphRule(20, "fp32", OUTPUTS, "1.20"),
        parity={},
        golden=Golden(GOLDEN, _golden_probabilities(), tolerance=1e-4),
    )


def _golden_probabilities() -> NDArray[np.float32]:
    vectors, matrix, bias = tiny_weights()
    encoded = TextEncoder(tiny_tokenizer(), max_length=32).encode(GOLDEN)
    windows = np.split(encoded.ids, encoded.window_offsets[1:-1])
    logits = np.stack([vectors[ids].mean(axis=0) for ids in windows]) @ matrix + bias
    return sigmoid(logits.astype(np.float64)).astype(np.float32)
