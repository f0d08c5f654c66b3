"""A calibrator's state in a saved folder: tensors, restored through the class that its registered name stands for."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mlclf.bundle.manifest import CalibratorEntry, PlattEntry
from mlclf.calibrators import PlattCalibrator, PlattOptions
from mlclf.exceptions import BundleDamagedError, OptionsError
from mlclf.interfaces import Calibrator
from mlclf.options import NamedOptions
from mlclf.plugins import resolve

CALIBRATOR_NAME = "calibrator.safetensors"


def write_calibrator(folder: Path, calibrator: Calibrator) -> None:
    """Write a calibrator's state as tensors.

    Raises
    ------
    OptionsError
        If the state is something else than arrays by name.
    """
    state = dict(calibrator.state())
    if not all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in state.items()):
        raise OptionsError(
            f"Calibrator {calibrator.options.component!r}: state() must return NumPy arrays by name, as nothing else "
            f"is saved, got {', '.join(f'{name!r}: {type(array).__name__}' for name, array in state.items())}."
        )
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, folder / CALIBRATOR_NAME)


def calibrator_entry(calibrator: Calibrator) -> CalibratorEntry:
    """Return what the manifest says of a calibrator."""
    options = calibrator.options
    return CalibratorEntry(
        name=options.component,
        options={key: value for key, value in options.model_dump(mode="json").items() if key != "name"},
        n_labels=calibrator.n_labels,
    )


def read_calibrator(folder: Path, entry: CalibratorEntry | PlattEntry) -> Calibrator:
    """Return the calibrator that was saved.

    Raises
    ------
    BundleDamagedError
        If its options or its state are not valid.
    """
    if isinstance(entry, PlattEntry):
        return _from_numbers(entry)
    _, component, defaults = resolve("calibrator", entry.name)
    try:
        options = cast(NamedOptions, type(defaults)(**entry.options))
        return component.restored(options, load_file(folder / CALIBRATOR_NAME), entry.n_labels)
    except (OptionsError, SafetensorError, OSError, KeyError, ValueError) as error:
        raise BundleDamagedError(f"The saved calibrator {entry.name!r} cannot be read: {error}.") from error


def _from_numbers(entry: PlattEntry) -> Calibrator:
    """Return the calibrator of a model that was saved by version 0.1."""
    state = {"scale": np.array(entry.scale), "offset": np.array(entry.offset)}
    try:
        return PlattCalibrator.restored(PlattOptions(), state, len(entry.scale))
    except OptionsError as error:
        raise BundleDamagedError(f"The saved calibration cannot be read: {error}.") from error
