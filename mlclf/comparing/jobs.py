"""Jobs: everything that a run's result depends on, and the key under which the result is kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlclf._version import __version__
from mlclf.comparing.matrix import Cell
from mlclf.comparing.rows import ComparedRows
from mlclf.exceptions import OptionsError
from mlclf.options import Options, TrainingOptions
from mlclf.plugins import provenance

_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "numpy", "scikit-learn", "bitsandbytes")


@dataclass(frozen=True)
class Settings:
    """What is equal in all runs of a comparison.

    Parameters
    ----------
    training : TrainingOptions
    validation : float
        Share of the training rows held out where no validation rows are given.
    thresholds : str or float
        As :class:`~mlclf.MultiLabelClassifier` takes them.
    calibration : str, Options, dict or None
    device : str or None
    threads : int
        Threads of each run: they change its seconds, and the last digits of its figures.
    """

    training: TrainingOptions = field(default_factory=TrainingOptions)
    validation: float | None = 0.1
    thresholds: str | float = "per-label"
    calibration: str | dict[str, Any] | Options | None = None
    device: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("checkpoint_dir", "resume_from"):
            if getattr(self.training, name) is not None:
                raise OptionsError(
                    f"TrainingOptions({name}=...) names one folder for all runs of a comparison. Leave it out: "
                    "finished runs are kept anyway."
                )

    def estimator(self) -> dict[str, Any]:
        """Return the parameters of the classifier, JSON-ready."""
        names = ("validation", "thresholds", "calibration", "device")
        values = {name: getattr(self, name) for name in names}
        return {k: v.model_dump(mode="json") if isinstance(v, Options) else v for k, v in values.items()}


@dataclass(frozen=True, eq=False)
class Job:
    """One run.

    Parameters
    ----------
    cell : Cell
    seed : int
    content : dict
        JSON-ready: all that the result depends on.
    """

    cell: Cell
    seed: int
    content: dict[str, Any]

    @property
    def key(self) -> str:
        """Checksum of the content."""
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """Name of the files of this run: readable, and one for each key."""
        return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', self.cell.title)[:80]}-{self.seed}-{self.key}"


def make_jobs(cells: Sequence[Cell], seeds: Sequence[int], rows: ComparedRows, settings: Settings) -> list[Job]:
    """Return the runs of a comparison: all cells with the first seed, then with the next.

    In this order an interrupted comparison has something to say about all cells early.
    """
    shared = {
        "rows": rows.checksums(),
        "classes": list(rows.classes),
        "training": settings.training.model_dump(mode="json"),
        "estimator": settings.estimator(),
        "threads": settings.threads,
        "versions": versions(),
    }
    return [Job(cell, seed, {**shared, **_own(cell, seed)}) for seed in seeds for cell in cells]


def versions() -> dict[str, str]:
    """Return the versions of what computes the figures."""
    found = {"mlclf": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def kept_result(folder: Path, job: Job) -> dict[str, Any] | None:
    """Return the result of a finished run, None where there is none."""
    try:
        found = json.loads((folder / f"{job.label}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or cut off by a full disk: run it again
        return None
    return found if isinstance(found, dict) and found.get("status") == "finished" else None


def _own(cell: Cell, seed: int) -> dict[str, Any]:
    return {"components": cell.entries, "plugins": list(provenance(cell.names)), "seed": seed}
