"""Runner: jobs in processes of their own, checked first, and reported as they end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlclf.comparing.jobs import Job
from mlclf.comparing.matrix import Cell, Refusal
from mlclf.comparing.processes import Task, results
from mlclf.comparing.progress import Progress, duration
from mlclf.comparing.rows import ComparedRows
from mlclf.datasets import save_jsonl


@dataclass(frozen=True)
class Runner:
    """Runs jobs.

    Parameters
    ----------
    runs : Path
        Folder of finished runs.
    work : Path
        Folder for what is needed meanwhile.
    parallel : int
        Processes at once.
    threads : int
        Threads of each.
    """

    runs: Path
    work: Path
    parallel: int
    threads: int

    def check(self, jobs: Sequence[Job], progress: Progress) -> dict[str, Refusal]:
        """Load each backbone once and try the strategies on it, before anything is fitted.

        Parameters
        ----------
        jobs : sequence of Job
        progress : Progress
            Told of each refusal.

        Returns
        -------
        dict of str to Refusal
            Cells that cannot be fitted, by title.
        """
        by_backbone: dict[str, dict[str, Cell]] = {}
        for job in jobs:
            by_backbone.setdefault(job.cell.backbone, {})[job.cell.title] = job.cell
        tasks = {
            Task(_check_content(list(cells.values())), self.work / f"check-{number}"): list(cells.values())
            for number, cells in enumerate(by_backbone.values())
        }
        unusable = {}
        for task, result in results(tasks, parallel=self.parallel, threads=self.threads):
            for cell, reason in zip(tasks[task], _reasons(result, len(tasks[task])), strict=True):
                if reason is not None:
                    unusable[cell.title] = Refusal(cell.title, reason)
                    progress.say(f"refused: {cell.title}: {reason}")
        return unusable

    def fit(self, jobs: Sequence[Job], rows: ComparedRows, progress: Progress) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Fit the jobs, and yield each with its result as it ends."""
        files = {}
        for name, data in rows.parts.items():
            files[name] = str(self.work / f"{name}.jsonl")
            save_jsonl(data, files[name])
        tasks = {Task({"kind": "fit", "job": job.content, "rows": files}, self.runs / job.label): job for job in jobs}
        for task, result in results(tasks, parallel=self.parallel, threads=self.threads):
            progress.advance(_line(tasks[task], result))
            yield tasks[task], result


def _check_content(cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "kind": "check",
        "backbone": cells[0].entries["backbone"],
        "pairs": [(cell.entries["strategy"], cell.entries["head"]) for cell in cells],
    }


def _reasons(result: dict[str, Any], n_cells: int) -> list[str | None]:
    """Return why each cell cannot be fitted; a backbone that cannot be loaded refuses all of its cells."""
    return list(result["refusals"]) if result["status"] == "finished" else [str(result["reason"])] * n_cells


def _line(job: Job, result: dict[str, Any]) -> str:
    name = f"{job.cell.title}, seed {job.seed}"
    if result["status"] != "finished":
        return f"failed: {name}: {result['reason']}"
    figures = result["figures"]
    return (
        f"{name}: micro-F1 {figures['micro_f1']:.3f}, macro-F1 {figures['macro_f1']:.3f}, "
        f"{duration(result['seconds'])}, {result['peak_memory'] / 2**20:.0f} MiB"
    )
