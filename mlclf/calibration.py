"""Calibration: probabilities that mean what they say, a label at a time.

Platt scaling (Platt, 1999, "Probabilistic outputs for support vector machines") fits ``sigmoid(scale * x + offset)``,
here to the log-odds ``x`` that a model gives. Two numbers a label are still too many for a label with a handful of
positives, so they have a normal prior: around scale 1 and around an offset that all labels share. The fewer cells tell
about a label, the closer it stays to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import BundleDamagedError, OptionsError
from mlclf.probabilities import checked_probabilities, log_odds, sigmoid
from mlclf.ranked_cells import Cells, cell_chunks
from mlclf.reliability import N_BINS, reliability
from mlclf.targets import Targets

# Standard deviations of the prior. In cross-validated log-loss a weaker one served a TF-IDF model of Reuters
# better, a stronger one MiniLM on GoEmotions; this stands between.
_SCALE_SPREAD, _OFFSET_SPREAD = 0.5, 1.0

# A scale of 0 or below would turn the order of the texts round.
_LEAST_SCALE = 0.05

_STEPS = 50
_CONVERGED = 1e-6

_CHUNK_CELLS = 1 << 20


@dataclass(frozen=True, eq=False)
class PlattScaling:
    """A map from a model's probabilities to calibrated ones; it never changes the order of texts within a label.

    Programs that run an exported model know calibration in this form only.

    Parameters
    ----------
    scale : ndarray of float32, shape (n_labels,)
        Factor of each label's log-odds; positive.
    offset : ndarray of float32, shape (n_labels,)
        Added to the scaled log-odds.

    Raises
    ------
    OptionsError
        If they differ in length, or are not finite, or a scale is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> PlattScaling([1.0, 0.5], [0.0, 0.0]).apply(np.array([[0.2, 0.2]])).round(3).tolist()
    [[0.20..., 0.33...]]
    """

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]

    def __post_init__(self) -> None:
        scale, offset = np.array(self.scale, dtype=np.float32), np.array(self.offset, dtype=np.float32)
        if scale.ndim != 1 or scale.shape != offset.shape:
            raise OptionsError(f"scale and offset must be one number a label, got {scale.shape} and {offset.shape}.")
        if not (np.isfinite(scale).all() and np.isfinite(offset).all() and (scale > 0).all()):
            raise OptionsError("scale and offset must be finite, and scale positive.")
        for name, array in (("scale", scale), ("offset", offset)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlattScaling):
            return NotImplemented
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.offset, other.offset)

    def __hash__(self) -> int:
        return hash((self.scale.tobytes(), self.offset.tobytes()))

    def apply(self, probabilities: Any) -> Any:
        """Return calibrated probabilities.

        Parameters
        ----------
        probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
            A probability of 0 stays 0, whether a sparse matrix stores it or not.

        Returns
        -------
        ndarray or csr_array of float32, shape (n_samples, n_labels)
        """
        checked = checked_probabilities(probabilities, len(self.scale))
        if not isinstance(checked, np.ndarray):
            calibrated = checked.copy()
            calibrated.data = self.cells(checked.data, checked.indices)
            return calibrated
        out = np.empty_like(checked)
        height, columns = max(1, _CHUNK_CELLS // len(self.scale)), np.arange(len(self.scale))
        for first in range(0, len(checked), height):
            rows = slice(first, first + height)
            out[rows] = self.cells(checked[rows], columns)
        return out

    def cells(self, probabilities: NDArray[np.float32], columns: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return calibrated probabilities of cells, whose labels broadcast against them."""
        moved = sigmoid(self.scale[columns] * log_odds(probabilities) + self.offset[columns])
        return np.where(probabilities > 0, moved, 0).astype(np.float32)

    def extended(self, n_labels: int) -> PlattScaling:
        """Return the same map for more labels; probabilities of the further ones are left as they are.

        Examples
        --------
        >>> PlattScaling([0.5], [1.0]).extended(2).scale.tolist()
        [0.5, 1.0]
        """
        added = n_labels - len(self.scale)
        return PlattScaling(np.append(self.scale, np.ones(added)), np.append(self.offset, np.zeros(added)))

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON-ready values; :meth:`from_json` gives back equal ones."""
        return {"scale": [float(x) for x in self.scale], "offset": [float(x) for x in self.offset]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> PlattScaling:
        """Return the calibrator that :meth:`to_json` wrote.

        Raises
        ------
        BundleDamagedError
            If the saved values are none that it writes.
        """
        try:
            return cls(saved["scale"], saved["offset"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleDamagedError(f"The saved calibration cannot be read: {error}.") from error


def fit_platt(probabilities: Any, targets: Targets) -> PlattScaling:
    """Fit Platt scaling for each label on validation rows.

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
        Marginal probabilities of rows that the model was not trained on. Cells of probability 0 are left out.
    targets : Targets
        Of the same shape; unknown cells are left out.

    Returns
    -------
    PlattScaling

    Raises
    ------
    InvalidInputError
        If probabilities do not fit the targets, or a cell is NaN or outside 0 to 1.

    Examples
    --------
    A model that says 0.9 where 0.7 is right:

    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a",)).encode(np.array([[1]] * 700 + [[0]] * 300))
    >>> p = np.full((1000, 1), 0.9)
    >>> fit_platt(p, targets).apply(p[:1]).round(2).tolist()
    [[0.69...]]
    """
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    shared = _shared_offset(checked, targets)
    scale, offset = np.ones(targets.n_labels), np.full(targets.n_labels, shared)
    for cells in cell_chunks(checked, targets):
        used = np.diff(cells.starts) > 0
        if used.any():
            scale[cells.columns][used], offset[cells.columns][used] = _fit_labels(cells, used, shared)
    return PlattScaling(scale.astype(np.float32), offset.astype(np.float32))


def expected_calibration_error(probabilities: Any, targets: Targets, n_bins: int = N_BINS) -> float:
    """Return how far probabilities are from frequencies on average, over all known cells of all labels.

    Cells are put into bins of equal width by their probability; the error is the mean, weighted by the number of cells,
    of the distance between mean probability and share of positive cells in a bin (Guo et al., 2017, arXiv:1706.04599).

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
    targets : Targets
    n_bins : int

    Returns
    -------
    float
        Between 0 and 1; NaN where no cell is known.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], []])
    >>> expected_calibration_error(np.array([[0.75, 0.0], [0.75, 0.0]]), targets)
    0.125
    """
    return reliability(probabilities, targets, n_bins).error


def _shared_offset(probabilities: Any, targets: Targets) -> float:
    """Return the offset that, at scale 1, fits all labels together."""
    offset = 0.0
    for _ in range(_STEPS):
        slope, curvature = 0.0, 1 / _OFFSET_SPREAD**2
        slope += offset * curvature
        for cells in cell_chunks(probabilities, targets):
            p = sigmoid(log_odds(cells.scores) + offset)
            slope += float((p - cells.truth).sum())
            curvature += float((p * (1 - p)).sum())
        # Newton's method with a bounded step: far from the optimum the curvature says little.
        step = float(np.clip(slope / curvature, -1, 1))
        offset -= step
        if abs(step) < _CONVERGED:
            break
    return offset


def _fit_labels(
    cells: Cells, used: NDArray[np.bool_], shared: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and offset of the labels that have cells: Newton's method, all labels at once."""
    starts = cells.starts[:-1][used]
    owners = np.cumsum(used)[cells.owners] - 1
    x, truth = log_odds(cells.scores), cells.truth
    scale, offset = np.ones(len(starts)), np.full(len(starts), shared)
    for _ in range(_STEPS):
        p = sigmoid(scale[owners] * x + offset[owners])
        weight = p * (1 - p)
        slope_a = np.add.reduceat((p - truth) * x, starts) + (scale - 1) / _SCALE_SPREAD**2
        slope_b = np.add.reduceat(p - truth, starts) + (offset - shared) / _OFFSET_SPREAD**2
        aa = np.add.reduceat(weight * x * x, starts) + 1 / _SCALE_SPREAD**2
        ab = np.add.reduceat(weight * x, starts)
        bb = np.add.reduceat(weight, starts) + 1 / _OFFSET_SPREAD**2
        # At its lower bound the scale is given, and only the offset moves.
        free = (scale > _LEAST_SCALE) | (slope_a < 0)
        step_a = np.where(free, (bb * slope_a - ab * slope_b) / (aa * bb - ab * ab), 0)
        step_b = (slope_b - ab * step_a) / bb
        largest = np.maximum(np.abs(step_a), np.abs(step_b))
        damping = np.minimum(1, 1 / np.maximum(largest, 1e-12))
        scale = np.maximum(scale - damping * step_a, _LEAST_SCALE)
        offset = offset - damping * step_b
        if largest.max() < _CONVERGED:
            break
    return scale, offset
