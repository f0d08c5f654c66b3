"""The graph's own probabilities and labels, which servers and other languages use, against those of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlclf.encoding import EncodedTexts, TextEncoder
from mlclf.exceptions import ParityError
from mlclf.onnx.entries import INPUTS, LABELS_OUTPUT
from mlclf.onnx.manifest import OnnxManifest
from mlclf.onnx.packages import import_runtime
from mlclf.onnx.parity import ALLOWED, calibration_slack
from mlclf.probabilities import sigmoid

# The graph calibrates log-odds where the runtime calibrates probabilities.
_TOLERANCE = 1e-3

_ERRORS_ONLY = 3


def check_outputs(
    graph: Path,
    tokenizer: Path,
    manifest: OnnxManifest,
    texts: Sequence[str],
    answers: NDArray[np.float32],
) -> None:
    """Run all outputs of a graph as a server does, and compare them with those of the runtime.

    Parameters
    ----------
    graph, tokenizer : Path
        Files of an exported folder, wherever they are.
    manifest : OnnxManifest
        What the folder says.
    texts : sequence of str
        Each of their windows is a row.
    answers : ndarray of float32, shape (n_texts, n_labels)
        Probabilities by the runtime.

    Raises
    ------
    ParityError
        Naming the output and the first row that differs.
    """
    encoded = _encoded(tokenizer, manifest, texts)
    outputs = _run(graph, manifest, encoded)
    raw = sigmoid(outputs["logits"]).astype(np.float32)
    expected = raw if manifest.calibrator is None else manifest.calibrator.apply(raw)
    # A text of one window is one row, whose output is the whole answer.
    whole = encoded.windows_per_sample == 1
    expected[encoded.sample_offsets[:-1][whole]] = answers[whole]
    tolerance = _TOLERANCE + ALLOWED[manifest.graph.precision].batch + calibration_slack(manifest.calibrator, raw)
    change = np.abs(outputs["probabilities"] - expected) - tolerance
    _compare("probabilities", change.max(axis=1) <= 0)
    if LABELS_OUTPUT in manifest.graph.outputs:
        applies = manifest.thresholds.apply(outputs["probabilities"])
        _compare(LABELS_OUTPUT, (outputs[LABELS_OUTPUT].astype(bool) == applies).all(axis=1))


def _encoded(tokenizer: Path, manifest: OnnxManifest, texts: Sequence[str]) -> EncodedTexts:
    rule = manifest.text
    return TextEncoder(Tokenizer.from_file(str(tokenizer)), rule.max_length, rule.window_stride).encode(texts)


def _run(graph: Path, manifest: OnnxManifest, encoded: EncodedTexts) -> dict[str, NDArray[Any]]:
    """Return all outputs for all windows in one batch, by name."""
    windows = np.arange(encoded.n_windows)
    ids, mask = encoded.padded(windows, manifest.text.pad_id, manifest.text.padding_side)
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    feeds = dict(zip(INPUTS, (ids.astype(np.int64), mask.astype(np.int64)), strict=True))
    return dict(zip(manifest.graph.outputs, session.run(list(manifest.graph.outputs), feeds), strict=True))


def _compare(output: str, right: NDArray[np.bool_]) -> None:
    if not right.all():
        raise ParityError(
            f"The graph's output {output!r} is not what follows from its logits in row {int(np.argmin(right))}. "
            "Nothing was written. Try another opset."
        )
