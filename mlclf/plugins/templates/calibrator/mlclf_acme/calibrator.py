"""Calibrator ``acme:calibrator``: one temperature for the log-odds of all labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize_scalar

from mlclf.calibration import PlattScaling
from mlclf.interfaces import Calibrator, label_cells
from mlclf.options import NamedOptions
from mlclf.probabilities import Probabilities, log_odds, sigmoid
from mlclf.targets import Targets


class AcmeCalibratorOptions(NamedOptions):
    """Options of the calibrator ``acme:calibrator``.

    Parameters
    ----------
    limit : float
        Largest factor of the log-odds, and one over the smallest.
    """

    component: ClassVar[str] = "acme:calibrator"

    limit: float = Field(default=10.0, gt=1, allow_inf_nan=False)


class AcmeCalibrator(Calibrator):
    """One factor for the log-odds of all labels, with the least log-loss on the validation rows.

    A factor above 0 leaves the order of texts as it is. A calibrator that may turn it round declares ``monotone =
    False``.

    Parameters
    ----------
    options : AcmeCalibratorOptions

    Attributes
    ----------
    scale : ndarray of float32, shape (n_labels,)
        The factor, once for each label; set by ``fit``.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Weinberger (2017): On Calibration of Modern Neural Networks. arXiv:1706.04599
    """

    Options: ClassVar[type[NamedOptions]] = AcmeCalibratorOptions
    options: AcmeCalibratorOptions
    scale: NDArray[np.float32]

    def fit(self, probabilities: Probabilities, targets: Targets) -> None:
        """Find the factor; ``label_cells`` leaves out unknown cells, and labels that have no others."""
        cells = [(log_odds(p), truth) for _, p, truth in label_cells(probabilities, targets)]
        self.scale = np.ones(targets.n_labels, dtype=np.float32)
        if cells:
            self.scale *= self._best(np.concatenate([x for x, _ in cells]), np.concatenate([t for _, t in cells]))

    def calibrate(self, probabilities: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Return calibrated probabilities; what was learned is indexed by ``columns`` and broadcasts."""
        return sigmoid(self.scale[columns] * log_odds(probabilities))

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return everything that was learned; a saved model holds these arrays and the options."""
        return {"scale": self.scale}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take what :meth:`state` returned."""
        self.scale = state["scale"]

    def table(self) -> PlattScaling:
        """Return the same as scale and offset of log-odds, which is all that exported models know of calibration."""
        return PlattScaling(self.scale, np.zeros_like(self.scale))

    def _best(self, x: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
        """Return the factor with the least log-loss; its logarithm is what is searched for."""
        wrong = np.where(truth, -x, x)
        limit = float(np.log(self.options.limit))
        found = minimize_scalar(
            lambda power: np.logaddexp(0, np.exp(power) * wrong).mean(), bounds=(-limit, limit), method="bounded"
        )
        return float(np.exp(found.x))
