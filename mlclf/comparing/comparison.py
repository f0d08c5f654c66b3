"""compare: fit the matrix, keep what is finished, and write table, plots and numbers."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlclf.assembly import Component
from mlclf.chaining.options import StrategyChoice
from mlclf.comparing.jobs import Job, Settings, kept_result, make_jobs, versions
from mlclf.comparing.matrix import Cell, Refusal, make_matrix
from mlclf.comparing.page import page
from mlclf.comparing.progress import Lines, Progress, Silence, comparing_progress
from mlclf.comparing.rows import ComparedRows, read_rows
from mlclf.comparing.runner import Runner
from mlclf.comparing.table import CellSummary, summarise
from mlclf.exceptions import OptionsError
from mlclf.onnx.cores import usable_cores
from mlclf.options import Options, TrainingOptions

_JSON, _PAGE, _RUNS = "comparison.json", "comparison.html", "runs"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Parameters
    ----------
    cell : Cell
    seed : int
    result : dict
        What its process wrote.
    """

    cell: Cell
    seed: int
    result: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Parameters
    ----------
    rows : ComparedRows
    seeds : tuple of int
    settings : Settings
    runs : tuple of Run
        The finished ones.
    refused : tuple of Refusal
        Combinations that do not go together.
    failed : tuple of Refusal
        Runs that ended with an error.
    """

    rows: ComparedRows
    seeds: tuple[int, ...]
    settings: Settings
    runs: tuple[Run, ...]
    refused: tuple[Refusal, ...] = ()
    failed: tuple[Refusal, ...] = ()
    cells: list[CellSummary] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", summarise((run.cell, run.seed, run.result) for run in self.runs))

    @property
    def in_words(self) -> str:
        """What was done, in a sentence."""
        return (
            f"{len(self.runs)} runs of {len(self.cells)} combinations, seeds {', '.join(map(str, self.seeds))}, "
            f"on {self.rows.described} of {self.rows.source}."
        )

    @property
    def facts(self) -> dict[str, str]:
        """How it was measured."""
        changed = self.settings.training.model_dump(exclude_defaults=True)
        from_rows = "validation rows of their own"
        if self.rows.validation is None:
            from_rows = f"a share of {self.settings.validation} of the training rows, another one for each seed"
        return {
            "rows": self.rows.described,
            "seeds": ", ".join(map(str, self.seeds)),
            "thresholds": f"{self.settings.thresholds}; these and the best epoch come from {from_rows}",
            "test rows": "the same for all runs; nothing was tuned on them",
            "training": ", ".join(f"{name}={value}" for name, value in changed.items()) or "default options",
            "machine": f"{platform.machine()}, {platform.system()}, threads of a run: {self.settings.threads}",
            "versions": ", ".join(f"{name} {version}" for name, version in versions().items())
            + f", python {platform.python_version()}",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "source": self.rows.source,
            "rows": {name: len(data) for name, data in self.rows.parts.items()},
            "facts": self.facts,
            "cells": [row.to_dict() for row in self.cells],
            "runs": [{"cell": run.cell.title, "seed": run.seed, **run.result} for run in self.runs],
            "refused": [{"cell": item.title, "reason": item.reason} for item in self.refused],
            "failed": [{"run": item.title, "reason": item.reason} for item in self.failed],
        }


def compare(
    data: str | Path | ComparedRows,
    *,
    out: str | Path,
    backbones: Sequence[Component] = ("bert",),
    strategies: Sequence[StrategyChoice] = ("lora",),
    heads: Sequence[Component] = ("bce",),
    seeds: int | Sequence[int] = 3,
    training: TrainingOptions | None = None,
    validation: float | None = 0.1,
    thresholds: str | float = "per-label",
    calibration: str | Options | None = None,
    device: str | None = None,
    parallel: int = 1,
    verbose: int = 1,
) -> Comparison:
    """Fit every combination of backbones, strategies and heads on the same rows, with several seeds.

    Each fit runs in a process of its own, so that its largest memory and its failures are its own. What is finished is
    kept: an interrupted or repeated call with the same ``out`` goes on, and runs anew only what would come out
    otherwise.

    Parameters
    ----------
    data : path or ComparedRows
        What :func:`read_rows` reads, or rows.
    out : path
        Folder for ``comparison.html``, ``comparison.json``, and finished runs in ``runs/``.
    backbones, strategies, heads : sequence of str or Options
        As :class:`~mlclf.MultiLabelClassifier` takes them; a list among the strategies is a chain.
    seeds : int or sequence of int
        How many, counted from 0, or which.
    training : TrainingOptions or None
        The same for all runs.
    validation, thresholds, calibration, device
        As :class:`~mlclf.MultiLabelClassifier` takes them.
    parallel : int
        Runs at once; each has its share of the cores, or as many threads as ``OMP_NUM_THREADS`` says.
    verbose : int
        0 for no progress.

    Returns
    -------
    Comparison

    Raises
    ------
    OptionsError, PluginError, DataFileError
        Before anything is fitted.
    KeyboardInterrupt
        By Ctrl-C or SIGTERM; finished runs are kept.
    """
    rows = data if isinstance(data, ComparedRows) else read_rows(data)
    settings = Settings(
        training=(training or TrainingOptions()).validated(),
        validation=validation,
        thresholds=thresholds,
        calibration=calibration,
        device=device,
        threads=_threads(_checked_number("parallel", parallel)),
    )
    chosen = _seeds(seeds)
    cells, refused = make_matrix(backbones, strategies, heads)
    folder = _checked_folder(Path(out))
    jobs = make_jobs(cells, chosen, rows, settings)
    kept = {job: result for job in jobs if (result := kept_result(folder / _RUNS, job)) is not None}
    missing = [job for job in jobs if job not in kept]
    with tempfile.TemporaryDirectory(prefix="mlclf-compare-") as work:
        runner = Runner(folder / _RUNS, Path(work), parallel, settings.threads)
        teller = Lines(len(missing)) if verbose else Silence()
        _announce(teller, len(jobs), len(kept), refused)
        unusable = runner.check(missing, teller)
        wanted = [job for job in missing if job.cell.title not in unusable]
        with comparing_progress(verbose, len(wanted)) as progress:
            finished = kept | dict(runner.fit(wanted, rows, progress))
    comparison = _gathered(rows, chosen, settings, jobs, finished, [*refused, *unusable.values()])
    _write(folder, comparison)
    return comparison


def _announce(progress: Progress, n_jobs: int, n_kept: int, refused: Iterable[Refusal]) -> None:
    for item in refused:
        progress.say(f"refused: {item.title}: {item.reason}")
    progress.say(f"{n_jobs} runs, {n_kept} of them finished before." if n_kept else f"{n_jobs} runs.")


def _gathered(
    rows: ComparedRows,
    seeds: tuple[int, ...],
    settings: Settings,
    jobs: Sequence[Job],
    ended: dict[Job, dict[str, Any]],
    refused: Sequence[Refusal],
) -> Comparison:
    """Return everything in the order of the jobs."""
    present = [(job, ended[job]) for job in jobs if job in ended]
    return Comparison(
        rows,
        seeds,
        settings,
        runs=tuple(Run(job.cell, job.seed, result) for job, result in present if result["status"] == "finished"),
        refused=tuple(refused),
        failed=tuple(
            Refusal(f"{job.cell.title}, seed {job.seed}", str(result["reason"]))
            for job, result in present
            if result["status"] != "finished"
        ),
    )


def _write(folder: Path, comparison: Comparison) -> None:
    text = json.dumps(comparison.to_dict(), ensure_ascii=False, indent=1)
    (folder / _JSON).write_text(text + "\n", encoding="utf-8")
    (folder / _PAGE).write_text(page(comparison), encoding="utf-8")


def _checked_folder(folder: Path) -> Path:
    """Return the folder of a comparison, made where it is not there.

    Raises
    ------
    OptionsError
        If it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise OptionsError(f"{str(folder)!r} is a file. Give a folder for the comparison.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _RUNS).is_dir():
        raise OptionsError(f"{str(folder)!r} holds something else than a comparison. Give a new folder.")
    (folder / _RUNS).mkdir(parents=True, exist_ok=True)
    return folder


def _threads(parallel: int) -> int:
    """Return the threads of each run: what OMP_NUM_THREADS says, else its share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else max(1, usable_cores() // parallel)


def _checked_number(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionsError(f"{name} must be a whole number from 1 on, got {value!r}.")
    return value


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds."""
    if isinstance(seeds, int):
        return tuple(range(_checked_number("seeds", seeds)))
    if not seeds or len(set(seeds)) < len(seeds) or any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise OptionsError(f"seeds must be a number of seeds, or different whole numbers from 0 on, got {seeds!r}.")
    return tuple(seeds)
