"""What this calibrator does; the rules that all calibrators keep are in test_conformance.py."""

import numpy as np
import pytest
from mlclf_acme.calibrator import AcmeCalibrator, AcmeCalibratorOptions

from mlclf.exceptions import OptionsError
from mlclf.labels import LabelSpace, Targets
from mlclf.probabilities import log_odds, sigmoid


def rows_with(factor: float) -> tuple[np.ndarray, Targets]:
    """Return what a model says whose log-odds are too large by a factor, and the truth."""
    generator = np.random.default_rng(0)
    frequency = generator.uniform(0.05, 0.95, (4000, 2))
    truth = (generator.random(frequency.shape) < frequency).astype(np.int8)
    return sigmoid(factor * log_odds(frequency)), LabelSpace(("joy", "fear")).encode(truth)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_it_takes_back_the_factor_by_which_log_odds_are_too_large(factor: float) -> None:
    fitted = AcmeCalibrator.fitted(AcmeCalibratorOptions(), *rows_with(factor))
    np.testing.assert_allclose(fitted.scale, 1 / factor, rtol=0.1)


def test_the_factor_stays_within_its_limit() -> None:
    fitted = AcmeCalibrator.fitted(AcmeCalibratorOptions(limit=1.5), *rows_with(3.0))
    np.testing.assert_allclose(fitted.scale, 1 / 1.5, rtol=0.01)


def test_a_limit_of_one_would_leave_nothing_to_learn() -> None:
    with pytest.raises(OptionsError, match="limit"):
        AcmeCalibratorOptions(limit=1.0)
