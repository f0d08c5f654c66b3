"""Routing: the rows of one batch through one backbone, each as its own task's strategy would have it.

A frozen module computes its output for all rows at once, as it is the same for all of them; after it, each run of rows
of one task is changed as that task's strategy changes it. Which rows are whose, the batch says (``Batch.row_tasks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.interfaces import Backbone, Batch, RowUpdate


@dataclass(frozen=True)
class RowRun:
    """Neighbouring rows of one task.

    Parameters
    ----------
    task : int
        Number of the task.
    start, stop : int
        The rows from ``start`` to ``stop - 1``.
    """

    task: int
    start: int
    stop: int


# The rows of the batch that is being read. Each thread has its own, as several may read with one backbone.
_RUNS: ContextVar[tuple[RowRun, ...]] = ContextVar("_RUNS")


def row_runs(row_tasks: Tensor) -> tuple[RowRun, ...]:
    """Return the runs of equal task numbers.

    Parameters
    ----------
    row_tasks : Tensor of int64, shape (n_rows,)

    Examples
    --------
    >>> import torch
    >>> [(run.task, run.start, run.stop) for run in row_runs(torch.tensor([0, 0, 2, 0]))]
    [(0, 0, 2), (2, 2, 3), (0, 3, 4)]
    """
    tasks, counts = torch.unique_consecutive(row_tasks, return_counts=True)
    runs, start = [], 0
    for task, count in zip(tasks.tolist(), counts.tolist(), strict=True):
        runs.append(RowRun(task, start, start + count))
        start += count
    return tuple(runs)


class NotByRowError(RuntimeError):
    """A module was given something else than one entry a row, so that its rows cannot be told apart."""


class RoutedSite:
    """A forward hook that changes a module's output, for each run of rows as its task does.

    Parameters
    ----------
    updates : mapping of int to callable
        What each task does there, by number; tasks that are absent leave the output as it is.
    """

    def __init__(self, updates: Mapping[int, RowUpdate]) -> None:
        self.updates = updates

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the output with all rows changed as their tasks do."""
        runs, states = _RUNS.get(), inputs[0]
        if len({run.task for run in runs}) == 1:
            update = self.updates.get(runs[0].task)
            return output if update is None else update(states, output)
        if not len(states) == len(output) == runs[-1].stop:
            raise NotByRowError(
                f"{type(module).__name__} was given {len(states)} entries in a batch of {runs[-1].stop} rows."
            )
        return torch.cat([self._changed(run, states, output) for run in runs])

    def _changed(self, run: RowRun, states: Tensor, output: Tensor) -> Tensor:
        update, rows = self.updates.get(run.task), slice(run.start, run.stop)
        return output[rows] if update is None else update(states[rows], output[rows])


class RoutedBackbone:
    """A backbone that reads rows of several tasks in one forward pass.

    Parameters
    ----------
    shared : Backbone
        Loaded, and not adapted.
    updates : sequence of dict, length n_tasks
        What each task's strategy does to single modules: :meth:`mlclf.interfaces.Strategy.row_updates`.

    Attributes
    ----------
    joins : bool
        Whether this architecture lets rows of several tasks share a batch. It does not where a layer is given
        something that all rows have in common (DeBERTa's relative positions).

    References
    ----------
    Chen et al. (2023), "Punica: Multi-Tenant LoRA Serving", arXiv:2310.18547, batch rows of different LoRAs over one
    product with the frozen weights.
    """

    def __init__(self, shared: Backbone, updates: Sequence[dict[str, RowUpdate]]) -> None:
        self.backbone = shared.sibling(shared.options)
        sites: dict[str, dict[int, RowUpdate]] = {}
        for task, by_name in enumerate(updates):
            for name, update in by_name.items():
                sites.setdefault(name, {})[task] = update
        for name, by_task in sites.items():
            self.backbone.model.get_submodule(name).register_forward_hook(RoutedSite(by_task))
        self.backbone.eval()
        # Afterwards states of all tokens are handed to heads as those after the last layer of the stack.
        self.joins = self.backbone.n_layers > 0 and self._takes_rows_apart()

    @torch.inference_mode()
    def token_states(self, batch: Batch) -> Tensor:
        """Return the states after the last layer, shape (n_rows, length, hidden).

        Parameters
        ----------
        batch : Batch
            With ``row_tasks``.
        """
        assert batch.row_tasks is not None
        token = _RUNS.set(row_runs(batch.row_tasks))
        try:
            return self.backbone.token_states(batch)
        finally:
            _RUNS.reset(token)

    def _takes_rows_apart(self) -> bool:
        """Try two rows of different tasks."""
        from dataclasses import replace

        batch = self.backbone.example_batch().to(next(self.backbone.model.parameters()).device)
        try:
            self.token_states(replace(batch, row_tasks=torch.arange(len(batch.input_ids))))
        except NotByRowError:
            return False
        return True
