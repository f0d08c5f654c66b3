"""Mixing: another training text is appended, and the labels of both apply."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlclf.augmentation.base import Corpus
from mlclf.options import AugmentationOptions
from mlclf.targets import Targets

if TYPE_CHECKING:
    from mlclf.label_cells import Csr

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixing:
    """Appends another text to a share of the texts and unites the labels.

    A text keeps its sample weight, and the one appended is drawn in proportion to its own: a row of weight 0 is in no
    mixture, and one of weight 2 is drawn as often as two equal rows of weight 1. Two texts that would be cut when they
    are read together are not mixed, because labels would stay whose text is gone.

    Parameters
    ----------
    share : float
        Share of the texts.
    weights : ndarray of float32, shape (n_samples,)
        Sample weights.
    lengths : ndarray of int64, shape (n_samples,)
        Tokens of each text.
    max_joint_length : int or None
        Most tokens of two texts, special tokens of both included; None for no limit.
    """

    share: float
    weights: NDArray[np.float32]
    lengths: NDArray[np.int64]
    max_joint_length: int | None

    @classmethod
    def make(cls, options: AugmentationOptions, corpus: Corpus) -> Mixing | None:
        """Return the technique where it is asked for, else None."""
        if not options.mixing:
            return None
        mixing = cls(options.mixing, corpus.weights, corpus.lengths, corpus.max_joint_length)
        lengths = corpus.lengths
        fitting = float(np.mean(mixing._fits(lengths, np.full_like(lengths, int(np.median(lengths))))))
        if fitting < 0.5:
            logger.warning(
                "AugmentationOptions(mixing=%g): %.0f %% of the training texts are too long to be read together with "
                "one of median length and are left alone. Raise max_length, or set window_stride.",
                options.mixing,
                100 * (1 - fitting),
            )
        return mixing

    def apply(
        self, texts: Sequence[str], targets: Targets, generator: np.random.Generator
    ) -> tuple[list[str], Targets]:
        """Return texts, some of them with another one behind, and the labels of what each now says."""
        rows, partners = self.pairs(generator)
        mixed = list(texts)
        for row, partner in zip(rows.tolist(), partners.tolist(), strict=True):
            mixed[row] = f"{texts[row]} {texts[partner]}".strip()
        return mixed, union(targets, rows, partners)

    def pairs(self, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw which texts are mixed with which.

        Returns
        -------
        rows, partners : ndarray of int64, shape (n_pairs,)
            Text ``partners[k]`` is appended to text ``rows[k]``; no text to itself.
        """
        n = len(self.weights)
        chosen = generator.random(n) < self.share
        ladder = np.cumsum(self.weights, dtype=np.float64)
        partners = np.searchsorted(ladder, generator.random(n) * ladder[-1], side="right")
        partners = np.minimum(partners, n - 1)
        chosen &= (partners != np.arange(n)) & self._fits(self.lengths, self.lengths[partners])
        return np.flatnonzero(chosen), partners[chosen]

    def fingerprint(self) -> str:
        """Return nothing: the options and the rows say all."""
        return ""

    def _fits(self, lengths: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pairs are read whole."""
        if self.max_joint_length is None:
            return np.ones(len(lengths), dtype=np.bool_)
        fits: NDArray[np.bool_] = lengths + others <= self.max_joint_length
        return fits


def union(targets: Targets, rows: NDArray[np.int64], partners: NDArray[np.int64]) -> Targets:
    """Add to the labels of some samples those of others, without making anything dense.

    A label applies to a pair if it is known to apply to either; it is unknown if it applies to neither and is unknown
    for at least one.

    Parameters
    ----------
    targets : Targets
    rows, partners : ndarray of int64, shape (n_pairs,)
        Sample ``rows[k]`` also gets the labels of sample ``partners[k]``; each row at most once.

    Returns
    -------
    Targets
        Of the same length.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b", "c")).encode(np.array([[1, 0, 0], [0, np.nan, 0]]))
    >>> mixed = union(targets, np.array([0]), np.array([1]))
    >>> mixed.indicator.toarray()[0].tolist(), mixed.unknown.toarray()[0].tolist()
    ([1, 0, 0], [False, True, False])
    """
    from scipy.sparse import csr_array

    shape = (len(targets), len(targets))
    picks = csr_array((np.ones(len(rows), dtype=np.int8), (rows, partners)), shape=shape)
    indicator = _ones(targets.indicator + picks @ targets.indicator, np.int8)
    unknown = None
    if targets.unknown is not None:
        cells = targets.unknown.astype(np.int8)
        cells = _ones(cells + picks @ cells, np.int8)
        unknown = _ones(cells - cells.multiply(indicator), np.bool_)
    dropped = targets.dropped_per_row
    if dropped is not None:
        dropped = dropped.copy()
        dropped[rows] += targets.dropped_per_row[partners]  # type: ignore[index]  # not None, as the copy is not
    return Targets(indicator, unknown, dropped)


def _ones(matrix: Csr, dtype: type[np.generic]) -> Csr:
    """Return a sorted matrix with a one in each cell that is not 0."""
    from scipy.sparse import csr_array

    result = csr_array(matrix)
    result.eliminate_zeros()
    result.sort_indices()
    return csr_array((np.ones(len(result.data), dtype=dtype), result.indices, result.indptr), shape=result.shape)
