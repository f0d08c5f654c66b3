"""Self-test: the golden texts of an exported folder, asked again where it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import SelfTestError
from mlclf.onnx.entries import Golden


def check_golden(golden: Golden, probabilities_of: Callable[[Sequence[str]], NDArray[np.float32]]) -> float:
    """Ask for the golden texts' probabilities, all in one call and each in its own, and compare.

    This finds what checksums cannot: another tokenizer library, another onnxruntime, a processor or GPU that computes
    otherwise, and answers that depend on what else is in a batch.

    Parameters
    ----------
    golden : Golden
    probabilities_of : callable
        Gives probabilities of texts, float32 ``(n_texts, n_labels)``.

    Returns
    -------
    float
        Largest difference found; 0 where there are no golden texts.

    Raises
    ------
    SelfTestError
        If it is above the tolerance; the message names the text.

    Examples
    --------
    >>> import numpy as np
    >>> golden = Golden(("so glad",), np.array([[0.25, 0.75]], dtype=np.float32), tolerance=0.01)
    >>> round(check_golden(golden, lambda texts: np.array([[0.25, 0.745]])), 3)
    0.005
    """
    if not golden.texts:
        return 0.0
    together = probabilities_of(golden.texts)
    alone = np.concatenate([probabilities_of([text]) for text in golden.texts])
    return max(_compare(golden, together, "in one batch"), _compare(golden, alone, "alone"))


def _compare(golden: Golden, probabilities: NDArray[np.float32], how: str) -> float:
    differences = np.abs(probabilities - golden.probabilities).max(axis=1)
    row = int(np.argmax(differences))
    # A NaN is within no tolerance, and argmax finds the first one.
    if not differences[row] <= golden.tolerance:
        text = golden.texts[row]
        raise SelfTestError(
            f"The model answers otherwise than where it was exported: for golden text {row} "
            f"({text[:40]!r}{'...' if len(text) > 40 else ''}), asked {how}, a probability differs by "
            f"{differences[row]:.2g}; {golden.tolerance:g} is allowed. Compare the versions of onnxruntime and "
            "tokenizers with those in manifest.json, and try providers='cpu'."
        )
    return float(differences[row])
