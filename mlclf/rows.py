"""Rows: labelled texts in mlclf's own form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.targets import Targets, csr_of_ones, stacked


@dataclass(frozen=True)
class Rows:
    """Some labelled texts.

    Parameters
    ----------
    texts : sequence of str, length n_samples
    targets : Targets
    weights : ndarray of float32, shape (n_samples,)
    """

    texts: Sequence[str]
    targets: Targets
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def none(cls, n_labels: int) -> Rows:
        """Return no rows."""
        nowhere = np.zeros(0, dtype=np.int64)
        return cls([], Targets(csr_of_ones(nowhere, nowhere, (0, n_labels), np.int8)), np.zeros(0, dtype=np.float32))

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        return Rows([self.texts[i] for i in rows], self.targets.take(rows), self.weights[rows])

    def followed_by(self, other: Rows) -> Rows:
        """Return these rows and, after them, others with the same labels."""
        return Rows(
            [*self.texts, *other.texts],
            stacked([self.targets, other.targets]),
            np.concatenate([self.weights, other.weights]),
        )

    def widened(self, n_labels: int) -> Rows:
        """Return the rows with further labels, of which nobody knows whether they apply."""
        return Rows(self.texts, self.targets.widened(n_labels), self.weights)
