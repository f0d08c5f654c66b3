"""Built-in calibrators; :mod:`mlclf.calibration` has their arithmetic, which programs without torch share."""

from mlclf.calibrators.platt import PlattCalibrator, PlattOptions

__all__ = ["PlattCalibrator", "PlattOptions"]
