"""Prediction: batches by length, results in the order of the texts, dense or sparse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from mlclf.batching import EncodedDataset, Rows, sorted_batches
from mlclf.decisions import top_columns
from mlclf.network import MultiLabelNetwork
from mlclf.training.device import Precision, autocast
from mlclf.training.step import is_out_of_memory

if TYPE_CHECKING:
    from scipy.sparse import csr_array

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Probabilities: TypeAlias = "NDArray[np.float32] | csr_array"

# Cells above which probabilities of many rows are kept sparse: 200 MB of float32.
_DENSE_CELLS = 50_000_000
_KEPT_PER_ROW = 100

# A processor is fastest while what is between two layers stays in its cache; a GPU wants more at once.
_CPU_ROWS, _CPU_TOKENS = 256, 1_024
_GPU_ROWS, _GPU_TOKENS = 256, 32_768


def stream_probabilities(
    network: MultiLabelNetwork, dataset: EncodedDataset, device: torch.device, precision: Precision = "fp32"
) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
    """Yield marginal probabilities batch by batch, each with the rows it belongs to.

    A batch that does not fit into memory is halved until it does.

    Parameters
    ----------
    network : MultiLabelNetwork
        Put into evaluation mode.
    dataset : EncodedDataset
        The texts.
    device : torch.device
        Where the network is.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the network.

    Yields
    ------
    rows : ndarray of int64, shape (n,)
    probabilities : ndarray of float32, shape (n, n_labels)
    """
    network.eval()

    def compute(rows: Rows) -> NDArray[np.float32]:
        with autocast(device, precision):
            return cast("NDArray[np.float32]", network.probabilities(dataset.batch(rows).to(device)).cpu().numpy())

    return by_length(dataset.lengths, device, compute)


def by_length(
    lengths: NDArray[np.int64], device: torch.device, compute: Callable[[Rows], Answer]
) -> Iterator[tuple[Rows, Answer]]:
    """Yield what is computed of batches of rows of similar length, each with its rows.

    A batch that does not fit into memory is halved until it does.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_samples,)
        Tokens of each row.
    device : torch.device
        Where it is computed; decides on the size of the batches.
    compute : callable
        Takes the numbers of some rows.

    Yields
    ------
    rows : ndarray of int64, shape (n,)
    answer : Any
        What ``compute`` returned for them.
    """
    size, tokens = (_CPU_ROWS, _CPU_TOKENS) if device.type == "cpu" else (_GPU_ROWS, _GPU_TOKENS)
    waiting = sorted_batches(lengths, size, tokens)[::-1]
    while waiting:
        rows = waiting.pop()
        try:
            answer = compute(rows)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
            logger.warning("Out of memory at %d texts: predicting in halves.", len(rows))
            waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
            continue
        yield rows, answer


def dense_probabilities(
    network: MultiLabelNetwork,
    dataset: EncodedDataset,
    n_labels: int,
    device: torch.device,
    precision: Precision = "fp32",
) -> NDArray[np.float32]:
    """Return all marginal probabilities, shape (n_samples, n_labels)."""
    out = np.zeros((len(dataset), n_labels), dtype=np.float32)
    for rows, probabilities in stream_probabilities(network, dataset, device, precision):
        out[rows] = probabilities
    return out


def sparse_probabilities(
    network: MultiLabelNetwork,
    dataset: EncodedDataset,
    n_labels: int,
    keep: int,
    device: torch.device,
    precision: Precision = "fp32",
) -> csr_array:
    """Return the ``keep`` largest probabilities of each text as a sparse matrix, for very many labels.

    Which cells are kept must not depend on the truth: if true labels were kept beside the best ones, a low threshold
    would look perfect, because the negatives that it also lets in are missing.

    Returns
    -------
    csr_array of float32, shape (n_samples, n_labels)
    """
    from scipy.sparse import coo_array

    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for rows, probabilities in stream_probabilities(network, dataset, device, precision):
        chosen = np.zeros(probabilities.shape, dtype=bool)
        np.put_along_axis(chosen, top_columns(probabilities, min(keep, n_labels)), True, axis=1)
        local, columns = np.nonzero(chosen)
        parts.append((rows[local], columns, probabilities[local, columns]))
    row, column, value = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return coo_array((value, (row, column)), shape=(len(dataset), n_labels)).tocsr()


def bounded_probabilities(
    network: MultiLabelNetwork,
    dataset: EncodedDataset,
    n_labels: int,
    device: torch.device,
    precision: Precision = "fp32",
) -> Probabilities:
    """Return probabilities for tuning and metrics: dense, or sparse where dense would not fit.

    Returns
    -------
    ndarray or csr_array of float32, shape (n_samples, n_labels)
        Sparse from 50 million cells on, with the 100 most probable labels of each text.
    """
    if len(dataset) * n_labels <= _DENSE_CELLS:
        return dense_probabilities(network, dataset, n_labels, device, precision)
    return sparse_probabilities(network, dataset, n_labels, _KEPT_PER_ROW, device, precision)
