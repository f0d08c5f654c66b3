"""OnnxClassifier: prediction from an exported folder with onnxruntime, tokenizers and NumPy alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlclf.decisions import checked_k, top_columns
from mlclf.encoding import TextEncoder
from mlclf.exceptions import BundleDamagedError, OptionsError
from mlclf.label_names import names_array
from mlclf.labels import LabelSpace
from mlclf.onnx.folder import TOKENIZER_NAME
from mlclf.onnx.graph_runner import GraphRunner
from mlclf.onnx.manifest import OnnxManifest, TextRule
from mlclf.onnx.providers import Requested
from mlclf.onnx.selftest import check_golden
from mlclf.probabilities import sigmoid
from mlclf.texts import as_texts
from mlclf.thresholds import Thresholds, as_thresholds

# Texts that are encoded and predicted together: enough to sort by length, few enough that their probabilities and
# tokens stay small whatever the number of labels and texts.
_MOST_TEXTS, _LEAST_TEXTS, _CELLS = 4_096, 64, 4_000_000


class OnnxClassifier:
    """Predicts with a model that ``MultiLabelClassifier.export_onnx`` wrote, without torch.

    The same texts get the same labels as from the model itself. Any number of threads may use one object at once.

    Parameters
    ----------
    folder : path
        The exported folder. Its files are compared with the checksums of its manifest.
    providers : {"cpu", "cuda", "tensorrt"}, sequence of onnxruntime's providers, or None
        Where to run. None takes a GPU where onnxruntime can use one, else the processor, with a warning where a GPU
        was to be expected. A name is binding: :class:`~mlclf.exceptions.ProviderError` where it cannot be used.
    threads : int or None
        Threads of one call; None takes as many as the process may use at once, by its affinity and its container.
    selftest : bool, default=False
        Ask the golden texts that the folder brings along, and compare their probabilities with those of the export.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        Label names in column order.
    n_labels_ : int
    thresholds_ : Thresholds
    manifest_ : OnnxManifest
    provider_ : str
        The execution provider that is really in use: ``"CPUExecutionProvider"``, ``"CUDAExecutionProvider"``.
    threads_ : int
        Threads of one call.

    Raises
    ------
    BundleError
        If the folder is not an exported model, damaged, altered, or of an unknown version, or fails its self-test.
    ProviderError
        If a device that was asked for cannot be used.
    MissingExtraError
        If onnxruntime is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf.onnx import OnnxClassifier
    >>> from mlclf.testing import tiny_exported
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = OnnxClassifier(tiny_exported(folder), "cpu", selftest=True)
    >>> model.predict_labels(["the dog likes soup", "rain and wind"])
    [('food',), ('food', 'travel')]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        providers: Requested = None,
        *,
        threads: int | None = None,
        selftest: bool = False,
    ) -> None:
        self.manifest_ = OnnxManifest.read(folder)
        self._labels = LabelSpace(self.manifest_.labels)
        self._encoder = _encoder(Path(folder), self.manifest_.text)
        self._runner = GraphRunner(Path(folder), self.manifest_, providers, threads)
        self.classes_ = names_array(self._labels.names)
        self.n_labels_ = self._labels.n_labels
        self.thresholds_ = self.manifest_.thresholds.for_labels(self.n_labels_)
        self.provider_, self.threads_ = self._runner.provider, self._runner.threads
        if self._runner.warning:
            warnings.warn(self._runner.warning, RuntimeWarning, stacklevel=2)
        if selftest:
            check_golden(self.manifest_.golden, self.predict_proba)

    def predict(self, X: Any, thresholds: Any = None) -> Any:
        """Return which labels apply.

        Parameters
        ----------
        X : sequence of str, length n_samples
        thresholds : float, dict, array, Thresholds or None
            Used for this call instead of the exported ones: one number, ``{label: number}`` (others as exported), one
            number a label, or an object.

        Returns
        -------
        ndarray or sparse matrix, shape (n_samples, n_labels)
            1 where the label applies, in the type that Y had in ``fit``; int8 where Y was label lists.
        """
        chosen = self._thresholds(thresholds)
        form = self.manifest_.y_format
        parts: list[Any] = [form.restore(chosen.apply(probabilities)) for _, probabilities in self._stream(as_texts(X))]
        if len(parts) == 1:
            return parts[0]
        if not form.sparse:
            return np.concatenate(parts)
        from scipy.sparse import vstack

        return vstack(parts, format="csr")

    def predict_labels(self, X: Any, top_k: int | None = None, thresholds: Any = None) -> list[tuple[Any, ...]]:
        """Return the label set of each text.

        Parameters
        ----------
        X : sequence of str, length n_samples
        top_k : int or None
            Keep at most this many labels of those that apply, the most probable ones.
        thresholds : float, dict, array, Thresholds or None
            As in :meth:`predict`.

        Returns
        -------
        list of tuple, length n_samples
            Label names in column order; an empty tuple where no label applies.
        """
        chosen = self._thresholds(thresholds).limited(top_k)
        found: list[tuple[Any, ...]] = []
        for _, probabilities in self._stream(as_texts(X)):
            found += self._labels.decode(chosen.apply(probabilities))
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return marginal probabilities.

        Parameters
        ----------
        X : sequence of str, length n_samples

        Returns
        -------
        ndarray of float32, shape (n_samples, n_labels)
            Cell ``[i, j]`` is the probability that label ``classes_[j]`` applies to text ``i``.
        """
        texts = as_texts(X)
        out = np.empty((len(texts), self.n_labels_), dtype=np.float32)
        for rows, probabilities in self._stream(texts):
            out[rows] = probabilities
        return out

    def predict_topk(self, X: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` most probable labels of each text, without building the full matrix.

        Parameters
        ----------
        X : sequence of str, length n_samples
        k : int
            Between 1 and ``n_labels_``.

        Returns
        -------
        indices : ndarray of int64, shape (n_samples, k)
            Columns (positions in ``classes_``), most probable first.
        probabilities : ndarray of float32, shape (n_samples, k)

        Raises
        ------
        OptionsError
            If ``k`` is out of range.
        """
        k = checked_k(k, self.n_labels_)
        texts = as_texts(X)
        indices = np.empty((len(texts), k), dtype=np.int64)
        values = np.empty((len(texts), k), dtype=np.float32)
        for rows, probabilities in self._stream(texts):
            indices[rows] = best = top_columns(probabilities, k)
            values[rows] = np.take_along_axis(probabilities, best, axis=1)
        return indices, values

    def __repr__(self) -> str:
        return f"OnnxClassifier({self.n_labels_} labels, {self.manifest_.graph.precision}, {self.provider_})"

    def _stream(self, texts: Sequence[str]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield probabilities of the texts in their order, many texts at a time."""
        step = int(np.clip(_CELLS // self.n_labels_, _LEAST_TEXTS, _MOST_TEXTS))
        for start in range(0, len(texts), step):
            rows = slice(start, start + step)
            yield rows, self._probabilities(texts[rows])

    def _probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        logits = self._runner.logits(self._encoder.encode(texts))
        raw = sigmoid(logits.astype(np.float64)).astype(np.float32)
        calibrator = self.manifest_.calibrator
        return raw if calibrator is None else cast("NDArray[np.float32]", calibrator.apply(raw))

    def _thresholds(self, given: Any) -> Thresholds:
        return self.thresholds_ if given is None else as_thresholds(given, self._labels.names, self.thresholds_)


def _encoder(folder: Path, rule: TextRule) -> TextEncoder:
    path = folder / TOKENIZER_NAME
    try:
        return TextEncoder(Tokenizer.from_file(str(path)), rule.max_length, rule.window_stride)
    except OptionsError as error:
        raise BundleDamagedError(f"The manifest's rule for texts does not fit {path}: {error}") from error
    except Exception as error:
        raise BundleDamagedError(
            f"{path} cannot be read by the installed version of tokenizers: {error}. Install the version that "
            "manifest.json names, or a newer one."
        ) from error
