"""Calibrator ``platt``: a scale and an offset of each label's log-odds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.calibration import PlattScaling, fit_platt
from mlclf.interfaces.calibrator import Calibrator
from mlclf.options import NamedOptions
from mlclf.probabilities import Probabilities
from mlclf.targets import Targets


class PlattOptions(NamedOptions):
    """The calibrator ``platt`` has no parameters."""

    component = "platt"


class PlattCalibrator(Calibrator):
    """Platt scaling of each label, with a prior that keeps rare labels close to what all share.

    Parameters
    ----------
    options : PlattOptions

    Attributes
    ----------
    scaling : PlattScaling
        Set by ``fit``.

    References
    ----------
    J. Platt (1999): Probabilistic outputs for support vector machines and comparisons to regularized likelihood
    methods.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.calibrators import PlattCalibrator, PlattOptions
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a",)).encode(np.array([[1]] * 700 + [[0]] * 300))
    >>> p = np.full((1000, 1), 0.9)
    >>> PlattCalibrator.fitted(PlattOptions(), p, targets).apply(p[:1]).round(2).tolist()
    [[0.69...]]
    """

    Options = PlattOptions
    scaling: PlattScaling

    def fit(self, probabilities: Probabilities, targets: Targets) -> None:
        """Fit scale and offset of each label."""
        self.scaling = fit_platt(probabilities, targets)

    def calibrate(self, probabilities: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return calibrated probabilities of cells."""
        return self.scaling.cells(probabilities, columns)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return scale and offset."""
        return {"scale": self.scaling.scale, "offset": self.scaling.offset}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take scale and offset."""
        self.scaling = PlattScaling(state["scale"], state["offset"])

    def table(self) -> PlattScaling:
        """Return scale and offset."""
        return self.scaling
