"""Model: a fitted network with its labels, thresholds and calibration; texts in, labels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from mlclf.batching import EncodedDataset
from mlclf.decisions import top_columns
from mlclf.encoding import TextEncoder
from mlclf.inference import Probabilities, bounded_probabilities, dense_probabilities, stream_probabilities
from mlclf.interfaces import Calibrator, LabelStatistics, Strategy
from mlclf.labels import LabelSpace, Targets, YFormat
from mlclf.network import MultiLabelNetwork
from mlclf.options import TrainingOptions
from mlclf.parts import Parts
from mlclf.replay import ReplayBuffer, ReplayOptions
from mlclf.thresholds import Thresholds
from mlclf.training.history import History

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass
class Model:
    """Everything a fitted classifier consists of; what a saved folder holds.

    Parameters
    ----------
    parts : Parts
        The components and their options.
    network : MultiLabelNetwork
    strategy : Strategy
        As it adapted the network's backbone.
    labels : LabelSpace
    y_format : YFormat
        Form in which ``predict`` answers.
    statistics : LabelStatistics
        Label counts of the training rows.
    thresholds : Thresholds
    calibrator : Calibrator or None
    training : TrainingOptions
    history : History
    metrics : dict
        Report on the validation rows; empty where there were none.
    device : torch.device
    replay : ReplayBuffer or None
        Rows kept to be learned from again; None where none are.
    replay_options : ReplayOptions or None
        How many were to be kept in the last fit; None where a saved model does not say.
    """

    parts: Parts
    network: MultiLabelNetwork
    strategy: Strategy
    labels: LabelSpace
    y_format: YFormat
    statistics: LabelStatistics
    thresholds: Thresholds
    calibrator: Calibrator | None
    training: TrainingOptions
    history: History
    device: torch.device
    metrics: dict[str, Any] = field(default_factory=dict)
    replay: ReplayBuffer | None = None
    replay_options: ReplayOptions | None = None

    @property
    def encoder(self) -> TextEncoder:
        """What turns texts into token ids for this network, with the head's prompt where it has one."""
        return self.network.head.text_encoder(self.network.backbone)

    def dataset(self, texts: Sequence[str], targets: Targets | None = None) -> EncodedDataset:
        """Encode texts for this network."""
        backbone, head = self.network.backbone, self.network.head
        return EncodedDataset(backbone, head, head.encode(backbone, texts), targets)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return marginal probabilities, shape (n_samples, n_labels)."""
        raw = dense_probabilities(self.network, self.dataset(texts), self.labels.n_labels, self.device)
        return cast("NDArray[np.float32]", self.calibrated(raw))

    def bounded_probabilities(self, texts: Sequence[str], targets: Targets) -> Probabilities:
        """Return probabilities for metrics and tuning: dense, or sparse for very many labels."""
        raw = bounded_probabilities(self.network, self.dataset(texts, targets), self.labels.n_labels, self.device)
        return cast("Probabilities", self.calibrated(raw))

    def indicator(self, texts: Sequence[str], thresholds: Thresholds) -> csr_array:
        """Return which labels apply, batch by batch, as CSR of int8 ``(n_samples, n_labels)``."""
        from scipy.sparse import coo_array

        dataset = self.dataset(texts)
        rows, columns = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for batch_rows, probabilities in stream_probabilities(self.network, dataset, self.device):
            local, found = np.nonzero(thresholds.apply(self.calibrated(probabilities)))
            rows.append(batch_rows[local])
            columns.append(found)
        row, column = np.concatenate(rows), np.concatenate(columns)
        cells = np.ones(len(row), dtype=np.int8)
        return coo_array((cells, (row, column)), shape=(len(texts), self.labels.n_labels)).tocsr()

    def top(self, texts: Sequence[str], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return columns and probabilities of the ``k`` most probable labels, each ``(n_samples, k)``."""
        indices = np.zeros((len(texts), k), dtype=np.int64)
        values = np.zeros((len(texts), k), dtype=np.float32)
        for rows, raw in stream_probabilities(self.network, self.dataset(texts), self.device):
            probabilities = self.calibrated(raw)
            indices[rows] = best = top_columns(probabilities, k)
            values[rows] = np.take_along_axis(probabilities, best, axis=1)
        return indices, values

    def calibrated(self, probabilities: Any) -> Any:
        """Return calibrated probabilities where there is a calibrator, else the same ones."""
        return probabilities if self.calibrator is None else self.calibrator.apply(probabilities)
