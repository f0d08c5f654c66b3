"""The conformance kit on calibrators: each rule is kept by good ones, and seen to be broken where it is."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from conformance_kit import checks_of_kind, failures, not_applicable, report_of

from mlclf.calibration import PlattScaling
from mlclf.interfaces import Calibrator, label_cells
from mlclf.options import NamedOptions
from mlclf.plugins import ComponentSpec, PluginManager, register_calibrator, use_manager
from mlclf.probabilities import log_odds, sigmoid
from mlclf.testing import component_checks, run_checks


class GoodCalibratorOptions(NamedOptions):
    component: ClassVar[str] = "local:good-calibrator"


class GoodCalibrator(Calibrator):
    """One temperature and one offset for all labels."""

    Options: ClassVar[type[NamedOptions]] = GoodCalibratorOptions

    def fit(self, probabilities: Any, targets: Any) -> None:
        self.n, self.learned = targets.n_labels, np.array([1.0, 0.0])
        cells = [(log_odds(p), truth) for _, p, truth in label_cells(probabilities, targets)]
        x, truth = np.concatenate([x for x, _ in cells]), np.concatenate([t for _, t in cells])
        pairs = [np.array([scale, offset]) for scale in (0.3, 0.5, 0.7, 1.0) for offset in (-1.0, -0.5, 0.0, 0.5)]
        losses = [np.logaddexp(0, (1 - 2 * truth) * (x * scale + offset)).mean() for scale, offset in pairs]
        self.learned = pairs[int(np.argmin(losses))]

    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return sigmoid(self.learned[0] * log_odds(probabilities) + self.learned[1])

    def state(self) -> dict[str, Any]:
        return {"learned": self.learned, "n": np.array([self.n])}

    def load_state(self, state: Any) -> None:
        self.learned, self.n = state["learned"], int(state["n"][0])

    def table(self) -> PlattScaling | None:
        return PlattScaling(np.full(self.n, self.learned[0]), np.full(self.n, self.learned[1]))


class Bins(GoodCalibrator):
    """Frequencies of ten bins, as found; no table says that, and it does not always rise."""

    monotone = False

    def fit(self, probabilities: Any, targets: Any) -> None:
        self.n, counts = targets.n_labels, np.full((2, 10), 1e-3)
        for _, p, truth in label_cells(probabilities, targets):
            bins = np.minimum((10 * p).astype(int), 9)
            counts += np.stack([np.bincount(bins[truth], minlength=10), np.bincount(bins, minlength=10)])
        self.learned = np.clip(counts[0] / counts[1], 0, 1)

    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return self.learned[np.minimum((10 * probabilities).astype(int), 9)]

    def table(self) -> None:
        return None


@pytest.mark.parametrize("component", [GoodCalibrator, Bins])
def test_a_calibrator_that_keeps_the_rules_passes(component: type[Any]) -> None:
    assert report_of(component).of("failed") == ()


def test_a_rule_that_does_not_concern_a_calibrator_says_why() -> None:
    assert "monotone=False" in not_applicable(Bins, "check_calibrator_order")
    assert "table() returns None" in not_applicable(Bins, "check_calibrator_table")


class AboveOne(GoodCalibrator):
    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return 1.5 * super().calibrate(probabilities, columns)


class NotANumber(GoodCalibrator):
    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return np.where(probabilities == 1, np.nan, super().calibrate(probabilities, columns))


class OneColumn(GoodCalibrator):
    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return super().calibrate(probabilities, columns)[..., :1]


class OverRows(GoodCalibrator):
    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return np.clip(probabilities / probabilities.max(initial=0.1), 0, 1)


class TurnedRound(GoodCalibrator):
    def calibrate(self, probabilities: Any, columns: Any) -> Any:
        return 1 - probabilities


class LearnsNothing(GoodCalibrator):
    def fit(self, probabilities: Any, targets: Any) -> None:
        self.n, self.learned = targets.n_labels, np.array([1.0, 0.0])


class FrequencyOfEachLabel(GoodCalibrator):
    """Divides by the positives of a label, of which there may be none."""

    def fit(self, probabilities: Any, targets: Any) -> None:
        super().fit(probabilities, targets)
        if targets.positives.min() == 0:
            raise ZeroDivisionError("no positives")


class StateOfObjects(GoodCalibrator):
    def state(self) -> dict[str, Any]:
        return {"learned": np.array([self.learned, None], dtype=object), "n": np.array([self.n])}


class StateForgotten(GoodCalibrator):
    def state(self) -> dict[str, Any]:
        return {"learned": np.array([1.0, 0.0]), "n": np.array([self.n])}


class NotAllLoaded(GoodCalibrator):
    def load_state(self, state: Any) -> None:
        self.n = int(state["n"][0])


class InPlaceCalibrator(GoodCalibrator):
    def fit(self, probabilities: Any, targets: Any) -> None:
        super().fit(probabilities, targets)
        probabilities *= 0.5


class DrawnAtRandom(GoodCalibrator):
    def fit(self, probabilities: Any, targets: Any) -> None:
        super().fit(probabilities, targets)
        self.learned = self.learned + np.random.default_rng().random(2) / 100


class OtherTable(GoodCalibrator):
    def table(self) -> PlattScaling:
        return PlattScaling(np.ones(self.n), np.zeros(self.n))


class ShortTable(GoodCalibrator):
    def table(self) -> PlattScaling:
        return PlattScaling(np.ones(1), np.zeros(1))


class KeepsAnOpenFunction(GoodCalibrator):
    def fit(self, probabilities: Any, targets: Any) -> None:
        super().fit(probabilities, targets)
        self.function = lambda p: p

    def load_state(self, state: Any) -> None:
        super().load_state(state)
        self.function = lambda p: p


BROKEN = [
    (AboveOne, "check_calibrator_values"),
    (NotANumber, "check_calibrator_values"),
    (OneColumn, "check_calibrator_values"),
    (OverRows, "check_calibrator_cells"),
    (TurnedRound, "check_calibrator_order"),
    (LearnsNothing, "check_calibrator_calibrates"),
    (FrequencyOfEachLabel, "check_calibrator_rare_labels"),
    (StateOfObjects, "check_calibrator_state"),
    (StateForgotten, "check_calibrator_state"),
    (NotAllLoaded, "check_calibrator_state"),
    (InPlaceCalibrator, "check_calibrator_fit_is_repeatable"),
    (DrawnAtRandom, "check_calibrator_fit_is_repeatable"),
    (OtherTable, "check_calibrator_table"),
    (ShortTable, "check_calibrator_table"),
    (KeepsAnOpenFunction, "check_estimator_can_be_pickled"),
    (StateForgotten, "check_save_and_load"),
]


@pytest.mark.parametrize(("component", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_calibrator_fails_the_check_of_its_fault(component: type[Any], check: str) -> None:
    assert failures(component, check) == {check}


def test_every_check_of_calibrators_is_seen_to_fail() -> None:
    assert checks_of_kind("calibrator") <= {check for _, check in BROKEN}


@pytest.mark.parametrize(("component", "exportable"), [(GoodCalibrator, False), (Bins, True)])
def test_a_record_that_differs_from_the_table_is_found(component: type[Any], exportable: bool) -> None:
    name = component.Options.component
    with use_manager(PluginManager(entry_points=[], environ={})) as manager:
        register_calibrator(component, name)
        entries = manager.local._entries["calibrator"]
        spec = ComponentSpec(name=name, target="a:B", options="a:C", summary="x", exportable=exportable)
        entries[name] = (spec, entries[name][1])
        report = run_checks([c for c in component_checks("calibrator", name) if c.name == "check_calibrator_table"])
    assert f"says exportable={exportable}" in str(report)


def test_a_failure_says_what_to_change() -> None:
    assert "declare monotone=False" in str(report_of(TurnedRound, "check_calibrator_order"))
