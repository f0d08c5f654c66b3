"""GraphRunner: one session of onnxruntime that turns encoded texts into logits, batch by batch, from any thread."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.batch_rows import Rows, sorted_batches
from mlclf.encoding import EncodedTexts
from mlclf.exceptions import BundleDamagedError, BundleVersionError, MlclfError, OptionsError
from mlclf.onnx.cores import usable_cores
from mlclf.onnx.folder import GRAPH_NAME
from mlclf.onnx.graph_file import check_references
from mlclf.onnx.manifest import GraphRule, OnnxManifest
from mlclf.onnx.memory import give_back_memory
from mlclf.onnx.packages import import_runtime
from mlclf.onnx.providers import CPU, Requested, open_session

logger = logging.getLogger(__name__)

LOGITS = "logits"

# Small batches keep what is between two layers in the processor's cache, and pad little: on one thread, MiniLM does 31
# texts a second of processor time in batches of 256 tokens, 22 with 2,048 and 17 with 4,096. Threads share a batch.
_CPU_ROWS, _CPU_TOKENS, _SHARING_THREADS = 16, 256, 16
_GPU_ROWS, _GPU_TOKENS = 256, 32_768

# Tokens of one call from which it is worth the time to give memory back after it.
_LARGE_CALL = 4_096

_NO_MEMORY = re.compile(r"failed to allocate memory|out of memory|bad_alloc|bad allocation", re.IGNORECASE)


class GraphRunner:
    """Runs the graph of an exported folder.

    A session has no state between two calls, so that any number of threads may use one runner at once.

    Parameters
    ----------
    folder : Path
        Checked already.
    manifest : OnnxManifest
    providers : {"cpu", "cuda", "tensorrt"}, sequence of providers, or None
        See :func:`mlclf.onnx.providers.choose`.
    threads : int or None
        Threads of one call; None takes as many as the process may use at once.

    Attributes
    ----------
    provider : str
        The execution provider that is really in use.
    threads : int
    warning : str
        What the user should know about the device; empty where all is as asked for.

    Raises
    ------
    BundleVersionError
        If the graph needs a newer onnxruntime.
    BundleDamagedError
        If the graph cannot be loaded, or is not what the manifest says.
    ProviderError
        If a device that was asked for cannot be used.
    """

    def __init__(self, folder: Path, manifest: OnnxManifest, providers: Requested, threads: int | None) -> None:
        runtime = import_runtime()
        _check_version(runtime.__version__, manifest.graph.min_onnxruntime)
        check_references(folder / GRAPH_NAME)
        self.threads = usable_cores() if threads is None else _checked_threads(threads)
        self._text = manifest.text
        self._n_labels = len(manifest.labels)
        self._session, self.warning = _load(folder, providers, _session_options(runtime, self.threads))
        # On an error in the middle of a run, onnxruntime would print to standard output and change devices.
        self._session.disable_fallback()
        _check_signature(self._session, manifest.graph, self._n_labels)
        self.provider: str = self._session.get_providers()[0]
        sharing = min(self.threads, _SHARING_THREADS)
        on_cpu = (sharing * _CPU_ROWS, sharing * _CPU_TOKENS)
        self._rows, self._tokens = on_cpu if self.provider == CPU else (_GPU_ROWS, _GPU_TOKENS)

    def logits(self, encoded: EncodedTexts) -> NDArray[np.float32]:
        """Return the logits of texts, those of a text's windows put together.

        Parameters
        ----------
        encoded : EncodedTexts

        Returns
        -------
        ndarray of float32, shape (n_samples, n_labels)
        """
        one_each = encoded.n_windows == len(encoded)
        logits = self._in_order(encoded) if one_each else self._aggregated(encoded)
        if len(encoded.ids) >= _LARGE_CALL:
            give_back_memory()
        return logits

    def _in_order(self, encoded: EncodedTexts) -> NDArray[np.float32]:
        out = np.empty((len(encoded), self._n_labels), dtype=np.float32)
        for windows, logits in self._stream(encoded):
            out[windows] = logits
        return out

    def _aggregated(self, encoded: EncodedTexts) -> NDArray[np.float32]:
        """Put windows together as they come, so that there is never more than one row a text."""
        counts = encoded.windows_per_sample
        owners = np.repeat(np.arange(len(encoded)), counts)
        if self._text.window_aggregation == "max":
            largest = np.full((len(encoded), self._n_labels), -np.inf, dtype=np.float32)
            for windows, logits in self._stream(encoded):
                np.maximum.at(largest, owners[windows], logits)
            return largest
        # In double precision, so that the order in which windows come leaves no trace.
        sums = np.zeros((len(encoded), self._n_labels), dtype=np.float64)
        for windows, logits in self._stream(encoded):
            np.add.at(sums, owners[windows], logits)
        return (sums / counts[:, None]).astype(np.float32)

    def _stream(self, encoded: EncodedTexts) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
        """Yield windows and their logits, batch by batch; a batch that is too large for memory is halved."""
        waiting = sorted_batches(encoded.window_lengths, self._rows, self._tokens)[::-1]
        while waiting:
            windows = waiting.pop()
            ids, mask = encoded.padded(windows, self._text.pad_id, self._text.padding_side)
            try:
                logits = self._run(ids, mask.astype(np.int64))
            except Exception as error:
                if len(windows) == 1 or not _NO_MEMORY.search(str(error)):
                    raise
                logger.warning("Out of memory at %d rows: predicting in halves.", len(windows))
                waiting += [windows[len(windows) // 2 :], windows[: len(windows) // 2]]
                continue
            yield windows, logits

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.provider == CPU:
            (logits,) = self._session.run([LOGITS], {"input_ids": ids, "attention_mask": mask})
            return np.asarray(logits, dtype=np.float32)
        # Bound outputs come back in one copy, and only the one that is wanted.
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", mask)
        binding.bind_output(LOGITS, "cpu")
        self._session.run_with_iobinding(binding)
        return np.asarray(binding.copy_outputs_to_cpu()[0], dtype=np.float32)


def _session_options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The arena keeps the memory of the largest batch ever seen.
    options.enable_cpu_mem_arena = False
    # Idle threads that spin take the processor from the program around them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _load(folder: Path, providers: Requested, options: Any) -> tuple[Any, str]:
    try:
        return open_session(folder / GRAPH_NAME, options, providers)
    except MlclfError:
        raise
    except Exception as error:
        raise BundleDamagedError(
            f"{folder / GRAPH_NAME} cannot be loaded by onnxruntime: {error}. Copy the folder again from where it was "
            "exported."
        ) from error


def _check_signature(session: Any, graph: GraphRule, n_labels: int) -> None:
    """Compare inputs and outputs with the manifest's."""
    inputs = {each.name: each.type for each in session.get_inputs()}
    if inputs != dict.fromkeys(graph.inputs, f"tensor({graph.input_type})"):
        raise BundleDamagedError(
            f"{GRAPH_NAME} takes {inputs}; the manifest says {', '.join(graph.inputs)} of {graph.input_type}."
        )
    outputs = {each.name: each for each in session.get_outputs()}
    if list(outputs) != list(graph.outputs):
        raise BundleDamagedError(f"{GRAPH_NAME} gives {list(outputs)}; the manifest says {list(graph.outputs)}.")
    if outputs[LOGITS].shape[-1] != n_labels or outputs[LOGITS].type != "tensor(float)":
        raise BundleDamagedError(
            f"{GRAPH_NAME} gives logits of type {outputs[LOGITS].type} and shape {outputs[LOGITS].shape}; the manifest "
            f"has {n_labels} labels, and logits are float."
        )


def _check_version(installed: str, least: str) -> None:
    if _numbers(installed) < _numbers(least):
        raise BundleVersionError(
            f"This model needs onnxruntime {least} or later, {installed} is installed: pip install 'onnxruntime>="
            f"{least}', or export it with a lower opset."
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (1, 24) for "1.24.0rc1" and "1.24"."""
    found = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in found.group().split(".")] if found else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _checked_threads(threads: Any) -> int:
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise OptionsError(
            f"threads must be a whole number of at least 1, or None for the usable cores, got {threads!r}."
        )
    return threads
