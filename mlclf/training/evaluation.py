"""Validation figures during training, computed by the same rules as the final report."""

from __future__ import annotations

import numpy as np
import torch

from mlclf.batching import EncodedDataset
from mlclf.inference import Probabilities, bounded_probabilities
from mlclf.labels import Targets
from mlclf.network import MultiLabelNetwork
from mlclf.training.device import Precision

_CHUNK_ROWS = 1024


def evaluate_run(
    network: MultiLabelNetwork, dataset: EncodedDataset, device: torch.device, precision: Precision
) -> dict[str, float]:
    """Score validation rows.

    F1 is taken at thresholds tuned on these same rows, because that is what the fitted model will use: F1 at 0.5
    would prefer weights that happen to be scaled well over weights that separate well.

    Returns
    -------
    dict of str to float
        ``loss``, ``micro_f1`` (one threshold), ``macro_f1`` (one threshold a label), ``mean_average_precision``, and
        figures of the head's own.
    """
    from mlclf.metrics import macro_f1, mean_average_precision, micro_f1
    from mlclf.thresholds import tune

    targets = dataset.targets
    assert targets is not None
    network.eval()
    network.head.refresh(network.backbone)
    probabilities = bounded_probabilities(network, dataset, targets.n_labels, device, precision)
    one = tune("global", probabilities, targets).apply(probabilities)
    each = tune("per-label", probabilities, targets).apply(probabilities)
    return {
        "loss": log_loss(probabilities, targets),
        "micro_f1": micro_f1(one, targets),
        "macro_f1": macro_f1(each, targets),
        "mean_average_precision": mean_average_precision(probabilities, targets),
        **network.head.validation_figures(),
    }


def log_loss(probabilities: Probabilities, targets: Targets) -> float:
    """Return the mean binary cross-entropy of all known cells.

    Where probabilities are sparse, an absent cell counts as one of probability 1e-7.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
    targets : Targets

    Returns
    -------
    float
        In nats a cell.
    """
    total = 0.0
    for start in range(0, len(targets), _CHUNK_ROWS):
        rows = np.arange(start, min(start + _CHUNK_ROWS, len(targets)))
        part = probabilities[rows]
        dense, known = targets.dense(rows)
        p = np.clip(part if isinstance(part, np.ndarray) else part.toarray(), 1e-7, 1 - 1e-7)
        cells = -np.log(np.where(dense > 0, p, 1 - p))
        total += float(cells.sum() if known is None else cells[known].sum())
    return total / max(1, int(targets.known_counts.sum()))
