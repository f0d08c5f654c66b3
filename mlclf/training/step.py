"""One optimizer step: micro-batches, sample weights, and recovery from running out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from mlclf.batching import EncodedDataset, Rows
from mlclf.exceptions import NonFiniteLossError, TrainingMemoryError
from mlclf.interfaces import Batch
from mlclf.training.optim import Optimizers, clip_gradients

logger = logging.getLogger(__name__)


@dataclass
class Stepper:
    """Runs optimizer steps.

    Parameters
    ----------
    accelerator : Accelerator
        Scales and synchronises gradients.
    model : nn.Module
        The network as the accelerator prepared it; maps a batch to one loss a sample.
    products : callable
        Returns a context for the forward pass alone: it looks at every operation, and those of the backward pass and
        of the optimizer are thousands a step.
    weights : ndarray of float32, shape (n_samples,)
        Weight of each sample in the loss.
    optimizers : Optimizers
        What is stepped.
    penalty : callable
        Returns a term to add to the loss, or None.
    max_grad_norm : float or None
        Gradient clipping.
    splits : int
        Parts that each batch is cut into; doubled whenever memory runs out.

    Attributes
    ----------
    dataset : EncodedDataset
        Where batches come from; set for each epoch.
    """

    accelerator: Accelerator
    model: nn.Module
    products: Callable[[], AbstractContextManager[None]]
    weights: NDArray[np.float32]
    optimizers: Optimizers
    penalty: Callable[[], Tensor | None]
    max_grad_norm: float | None
    splits: int = 1
    dataset: EncodedDataset = field(init=False)

    def step(self, batches: list[Rows]) -> float:
        """Learn from some batches at once and return the mean loss of their samples.

        Raises
        ------
        NonFiniteLossError
            If the loss is NaN or infinite; no parameter has been changed by it.
        TrainingMemoryError
            If not even one sample fits into memory.
        """
        while True:
            try:
                loss = self._accumulate(batches)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._split_further(max(len(rows) for rows in batches), error)
        if not np.isfinite(loss):
            self.optimizers.zero_grad()
            raise NonFiniteLossError(f"the loss became {loss}")
        self._update()
        return loss

    def _accumulate(self, batches: list[Rows]) -> float:
        """Sum the gradients of all parts, weighted so that they equal those of one large batch."""
        self.optimizers.zero_grad()
        parts = [part for rows in batches for part in np.array_split(rows, min(self.splits, len(rows)))]
        total = float(sum(self.weights[rows].sum() for rows in batches)) or 1.0
        loss = 0.0
        for number, rows in enumerate(parts):
            batch = self.dataset.batch(rows).to(self.accelerator.device)
            weight = torch.from_numpy(self.weights[rows] / total).to(self.accelerator.device)
            if number < len(parts) - 1:
                with self.accelerator.no_sync(self.model):
                    loss += self._backward(batch, weight)
            else:
                loss += self._backward(batch, weight, self.penalty())
        return loss

    def _backward(self, batch: Batch, weight: Tensor, penalty: Tensor | None = None) -> float:
        """Add the gradients of one part and return its share of the loss."""
        with self.products():
            losses = self.model(batch)
        loss = (losses * weight).sum()
        if penalty is not None:
            loss = loss + penalty
        self.accelerator.backward(loss)
        return float(loss.detach())

    def _update(self) -> None:
        """Clip and step; under a gradient scaler the accelerator unscales first."""
        if self.accelerator.scaler is not None:
            for optimizer in self.optimizers.all:
                self.accelerator.unscale_gradients(optimizer)
        if self.max_grad_norm is not None:
            clip_gradients(self.optimizers.parameters(), self.max_grad_norm)
        self.optimizers.step()

    def _split_further(self, largest: int, error: Exception) -> None:
        """Halve the parts; the effective batch stays the same."""
        if self.splits >= largest:
            raise TrainingMemoryError(
                "One sample alone does not fit into memory. Use a smaller max_length, "
                "TrainingOptions(gradient_checkpointing=True), a smaller backbone or a strategy that trains less."
            ) from error
        self.splits = min(largest, self.splits * 2)
        self.optimizers.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning("Out of memory: each batch is now computed in %d parts and their gradients summed.", self.splits)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out; on processors torch raises a plain RuntimeError."""
    text = str(error)
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "DefaultCPUAllocator: can't allocate memory" in text
        or "not enough memory" in text
    )
