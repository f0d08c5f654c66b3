"""Checks of calibrators: what they make of probabilities, and what of them is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mlclf.bundle.calibrator_file import calibrator_entry, read_calibrator, write_calibrator
from mlclf.calibration import PlattScaling, expected_calibration_error
from mlclf.exceptions import BundleDamagedError, ConformanceError, InvalidInputError, OptionsError
from mlclf.interfaces import Calibrator
from mlclf.labels import LabelSpace, Targets
from mlclf.options import NamedOptions
from mlclf.probabilities import log_odds, sigmoid
from mlclf.testing.conformance.partners import given
from mlclf.testing.conformance.results import NotApplicable
from mlclf.testing.conformance.samples import label_names
from mlclf.testing.conformance.workbench import Workbench

_N_LABELS = 4
_ROUNDING = 1e-6
_RARE = 8

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """Rows that a calibrator is fitted on.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (n_samples, n_labels)
    targets : Targets
    """

    probabilities: Floats
    targets: Targets


def check_calibrator_values(bench: Workbench) -> None:
    """Probabilities become probabilities: from 0 to 1, float32, of the same shape, for any probability from 0 to 1."""
    calibrator = _fitted(bench, overconfident())
    grid = _grid(_N_LABELS)
    for rows in (grid, grid[:1], grid[:0], _edges(_N_LABELS)):
        found = _applied(calibrator, rows)
        if found.shape != rows.shape or found.dtype != np.float32:
            raise ConformanceError(f"{rows.shape} probabilities became {found.dtype} of shape {found.shape}.")


def check_calibrator_cells(bench: Workbench) -> None:
    """A cell is calibrated by itself: alone, among others and in a sparse matrix its probability is the same."""
    from scipy.sparse import csr_array

    calibrator = _fitted(bench, overconfident())
    rows = overconfident(seed=1).probabilities[:32]
    rows[::3, 1] = 0
    whole = _applied(calibrator, rows)
    alone = np.concatenate([_applied(calibrator, row[None]) for row in rows])
    sparse = _applied(calibrator, csr_array(rows)).toarray()
    for how, found in (("alone", alone), ("in a sparse matrix", sparse), ("turned", _turned(calibrator, rows))):
        if not np.abs(found - whole).max() <= _ROUNDING:
            raise ConformanceError(
                f"A cell {how} becomes another probability, by {np.abs(found - whole).max():.1e}. calibrate may use "
                "the probability and its column only, and is given cells in rows or, of a sparse matrix, in one flat "
                "array: index what was learned by columns and let it broadcast."
            )


def check_calibrator_order(bench: Workbench) -> None:
    """A calibrator that declares monotone=True never turns the order of a label's texts round."""
    if not bench.component.monotone:
        raise NotApplicable("it declares monotone=False")
    for rows in (overconfident(), rare_labels()):
        steps = np.diff(_applied(_fitted(bench, rows), _grid(rows.targets.n_labels)), axis=0)
        if not steps.min() >= -_ROUNDING:
            column = int(steps.min(axis=0).argmin())
            raise ConformanceError(
                f"A higher probability of label {column} becomes a lower one, by up to {-steps.min():.1e}. Rankings "
                "of texts change by that; keep what is learned increasing, or declare monotone=False."
            )


def check_calibrator_calibrates(bench: Workbench) -> str:
    """On the rows that it was fitted on, probabilities are closer to frequencies than those that a model gave."""
    rows = overconfident()
    before = expected_calibration_error(rows.probabilities, rows.targets)
    found = _applied(_fitted(bench, rows), rows.probabilities)
    after = expected_calibration_error(found, rows.targets)
    if not after < before:
        raise ConformanceError(
            f"The calibration error of an overconfident model is {before:.3f} before and {after:.3f} after. Check that "
            "fit learns, and that calibrate uses it in the right direction."
        )
    return f"calibration error {before:.3f} to {after:.3f}"


def check_calibrator_rare_labels(bench: Workbench) -> None:
    """Labels with no, one or only positives, with no known cell, or with equal probabilities do not break a fit."""
    rows = rare_labels()
    for how, part in (
        ("rare labels", rows),
        ("one row", Validation(rows.probabilities[:1], rows.targets.take(np.arange(1)))),
    ):
        try:
            calibrator = _fitted(bench, part)
        except Exception as error:
            raise ConformanceError(
                f"Fitting on {how} raises {type(error).__name__}: {error}. Leave a label as it is, or close to the "
                "others, where its rows say little: label_cells gives only labels that have cells."
            ) from error
        _applied(calibrator, _grid(_RARE))


def check_calibrator_state(bench: Workbench) -> None:
    """What was learned is saved as plain arrays without pickle, and a new calibrator given them answers the same."""
    for rows in (overconfident(), rare_labels()):
        calibrator, grid = _fitted(bench, rows), _grid(rows.targets.n_labels)
        odd = {key: getattr(value, "dtype", type(value)) for key, value in calibrator.state().items()}
        if wrong := [f"{key!r}: {kind}" for key, kind in odd.items() if not _plain(kind)]:
            raise ConformanceError(
                f"state() returns {', '.join(wrong)}. Return NumPy arrays of numbers: objects would need pickle."
            )
        try:
            found = _applied(_saved_and_loaded(bench, calibrator), grid)
        except (AttributeError, BundleDamagedError, OptionsError) as error:
            raise ConformanceError(
                f"A calibrator cannot be saved and loaded: {error} load_state must set everything that fit sets, from "
                "what state() returned and from the options."
            ) from error
        if not np.array_equal(found, _applied(calibrator, grid)):
            raise ConformanceError(
                "A calibrator that was saved and loaded answers differently. state() must return everything that fit "
                "learned, and load_state take all of it."
            )


def check_calibrator_fit_is_repeatable(bench: Workbench) -> None:
    """Two fits on the same rows learn the same, and leave the rows they are given as they were."""
    rows = overconfident()
    given_rows = rows.probabilities.copy()
    grid = _grid(_N_LABELS)
    first, second = (_applied(_fitted(bench, rows), grid) for _ in range(2))
    if not np.array_equal(rows.probabilities, given_rows) or not np.array_equal(grid, _grid(_N_LABELS)):
        raise ConformanceError("The probabilities that it is given are changed in place. Work on a copy.")
    if not np.array_equal(first, second):
        raise ConformanceError(
            f"Two fits on the same rows differ by {np.abs(first - second).max():.1e}. Draw random numbers from a "
            "generator with a seed that is an option."
        )


def check_calibrator_table(bench: Workbench) -> str:
    """A table of scale and offset, by which a model is exported, says the same as the calibrator itself."""
    exportable = bench.spec.exportable
    calibrator = _fitted(bench, overconfident())
    table = calibrator.table()
    if table is None:
        if exportable:
            raise ConformanceError(
                f"ComponentSpec {bench.name!r} says exportable=True, and table() returns None. Write table(), or set "
                "exportable=False."
            )
        raise NotApplicable("its table() returns None: models with it are not exported to ONNX")
    if exportable is False:
        raise ConformanceError(f"ComponentSpec {bench.name!r} says exportable=False, and table() returns one.")
    if not isinstance(table, PlattScaling) or len(table.scale) != _N_LABELS:
        raise ConformanceError(f"table() must return PlattScaling of one scale and offset a label, got {table!r}.")
    grid = _grid(_N_LABELS)
    change = float(np.abs(table.apply(grid) - _applied(calibrator, grid)).max())
    if not change <= 1e-5:
        raise ConformanceError(
            f"The table's answers differ from calibrate's by {change:.1e}, and an exported model would have them. "
            "Return None where scale and offset of log-odds cannot say the same."
        )
    return f"largest difference {change:.0e}"


def overconfident(seed: int = 0) -> Validation:
    """Return what a model says that is too sure and too high, shape (400, 4); some cells are not known."""
    generator = np.random.default_rng(seed)
    frequency = generator.beta(0.8, 2.0, (400, _N_LABELS))
    cells = (generator.random(frequency.shape) < frequency).astype(np.float32)
    cells[generator.random(frequency.shape) < 0.1] = np.nan
    said = sigmoid(2 * log_odds(frequency) + 1.0).astype(np.float32)
    return Validation(np.clip(said, 1e-4, 1 - 1e-4), LabelSpace(label_names(_N_LABELS)).encode(cells))


def rare_labels() -> Validation:
    """Return twelve rows of labels that tell little.

    In the order of the columns: no positive, one, only positives, no known cell, equal probabilities, probabilities of
    0, of 1, and two classes that the probabilities separate.
    """
    generator = np.random.default_rng(0)
    said = generator.uniform(0.05, 0.95, (12, _RARE)).astype(np.float32)
    cells = (generator.random(said.shape) < 0.5).astype(np.float32)
    cells[:, 0], cells[:, 1], cells[:, 2], cells[:, 3] = 0, 0, 1, np.nan
    cells[5, 1] = 1
    said[:, 4], said[:, 5], said[:, 6] = 0.3, 0, 1
    cells[:, 7] = said[:, 7] > 0.5
    return Validation(said, LabelSpace(label_names(_RARE)).encode(cells))


def _fitted(bench: Workbench, rows: Validation) -> Calibrator:
    names = label_names(rows.targets.n_labels)
    options = cast(NamedOptions, given(bench.choice, names))
    made: Calibrator = bench.component.fitted(options, rows.probabilities, rows.targets)
    return made


def _saved_and_loaded(bench: Workbench, calibrator: Calibrator) -> Calibrator:
    """Return a calibrator that went through the file of a saved model."""
    folder = bench.session.folder("calibrator")
    write_calibrator(folder, calibrator)
    return read_calibrator(folder, calibrator_entry(calibrator))


def _applied(calibrator: Calibrator, rows: Any) -> Any:
    """Return calibrated probabilities; apply itself looks whether they are some."""
    try:
        return calibrator.apply(rows)
    except InvalidInputError as error:
        raise ConformanceError(str(error)) from error


def _turned(calibrator: Calibrator, rows: Floats) -> Floats:
    turned: Floats = _applied(calibrator, rows[::-1])[::-1]
    return turned


def _grid(n_labels: int) -> Floats:
    """Return rising probabilities from 0 to 1 for every label, shape (1001, n_labels)."""
    return np.repeat(np.linspace(0, 1, 1001, dtype=np.float32)[:, None], n_labels, axis=1)


def _edges(n_labels: int) -> Floats:
    """Return the smallest and the largest probabilities of float32."""
    one = np.float32(1)
    edges = [np.finfo(np.float32).tiny, 1e-30, 1e-7, float(np.nextafter(one, np.float32(0))), 1.0]
    return np.repeat(np.array(edges, dtype=np.float32)[:, None], n_labels, axis=1)


def _plain(kind: Any) -> bool:
    """Say whether a type is that of an array of numbers."""
    return isinstance(kind, np.dtype) and kind.kind in "biuf"
