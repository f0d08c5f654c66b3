"""The graph's own probabilities and labels, which servers and other languages use, against those of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlclf.encoding import TextEncoder
from mlclf.exceptions import ParityError
from mlclf.onnx.entries import INPUTS, LABELS_OUTPUT
from mlclf.onnx.manifest import OnnxManifest
from mlclf.onnx.packages import import_runtime
from mlclf.probabilities import sigmoid

# The graph calibrates log-odds where the runtime calibrates probabilities: in float32 a probability near 1 says less.
_TOLERANCE = 1e-3


def check_outputs(graph: Path, tokenizer: Path, manifest: OnnxManifest, texts: Sequence[str]) -> None:
    """Run all outputs of a graph as a server does, and compare them with what the runtime makes of the logits.

    Parameters
    ----------
    graph, tokenizer : Path
        Files of an exported folder, wherever they are.
    manifest : OnnxManifest
        What the folder says.
    texts : sequence of str
        Each of their windows is a row.

    Raises
    ------
    ParityError
        Naming the output and the first row that differs.
    """
    outputs = _run(graph, tokenizer, manifest, texts)
    raw = sigmoid(outputs["logits"].astype(np.float32))
    expected = raw if manifest.calibrator is None else manifest.calibrator.apply(raw)
    _compare("probabilities", np.abs(outputs["probabilities"] - expected).max(axis=1) <= _TOLERANCE)
    if LABELS_OUTPUT in manifest.graph.outputs:
        applies = manifest.thresholds.apply(outputs["probabilities"])
        _compare(LABELS_OUTPUT, (outputs[LABELS_OUTPUT].astype(bool) == applies).all(axis=1))


def _run(graph: Path, tokenizer: Path, manifest: OnnxManifest, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return all outputs for the windows of some texts, by name."""
    rule = manifest.text
    encoded = TextEncoder(Tokenizer.from_file(str(tokenizer)), rule.max_length, rule.window_stride).encode(texts)
    ids, mask = encoded.padded(np.arange(encoded.n_windows), rule.pad_id, rule.padding_side)
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    feeds = dict(zip(INPUTS, (ids.astype(np.int64), mask.astype(np.int64)), strict=True))
    return dict(zip(manifest.graph.outputs, session.run(list(manifest.graph.outputs), feeds), strict=True))


def _compare(output: str, right: NDArray[np.bool_]) -> None:
    if not right.all():
        raise ParityError(
            f"The graph's output {output!r} is not what follows from its logits in row {int(np.argmin(right))}. "
            "Nothing was written. Try another opset."
        )
