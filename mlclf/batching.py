"""The data set that batches are taken from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.batch_rows import Rows, shuffled_batches, sorted_batches
from mlclf.encoding import EncodedTexts
from mlclf.interfaces import Backbone, Batch, Head
from mlclf.labels import Targets

__all__ = ["EncodedDataset", "Rows", "shuffled_batches", "sorted_batches"]


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded texts with their targets, from which batches are made.

    Parameters
    ----------
    backbone, head : Backbone, Head
        Make the batches.
    encoded : EncodedTexts
        All samples.
    targets : Targets or None
        None at prediction.
    """

    backbone: Backbone
    head: Head
    encoded: EncodedTexts
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample, shape (n_samples,)."""
        return self.encoded.sample_lengths

    def epoch(self, number: int) -> EncodedDataset:
        """Return the rows of an epoch: the same ones in every epoch."""
        return self

    def batch(self, rows: Rows) -> Batch:
        """Make the batch of some samples."""
        return self.head.collate(self.backbone, self.encoded, rows, self.targets)
