"""The training loop of a language model: one loss, no labels, no validation."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mlclf.batch_rows import shuffled_batches
from mlclf.encoding import EncodedTexts
from mlclf.exceptions import NonFiniteLossError, TrainingInterrupted
from mlclf.options import TrainingOptions
from mlclf.pretraining.objectives import Objective
from mlclf.training.device import Precision, autocast, resolve_precision
from mlclf.training.interrupt import InterruptGuard
from mlclf.training.optim import Optimizers, clip_gradients, schedule_factor
from mlclf.training.progress import Progress, training_progress

logger = logging.getLogger(__name__)

# Rows are padded to a multiple of so many predicted tokens.
_LENGTHS = 8


class LanguageModelLoop:
    """Trains a language model.

    Parameters
    ----------
    model : PreTrainedModel
        On its device.
    objective : Objective
    rows : EncodedTexts
        From ``objective.rows``; a window is a row.
    options : TrainingOptions
    generator : numpy.random.Generator
        Source of the order of rows and of what is hidden.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        rows: EncodedTexts,
        options: TrainingOptions,
        generator: np.random.Generator,
    ) -> None:
        self.model, self.objective, self.rows = model, objective, rows
        self.options, self.generator = options, generator
        self.precision: Precision = resolve_precision(options.precision, model.device)
        self.optimizers = _optimizers(model, options)
        self.total_steps = options.epochs * -(-rows.n_windows // options.batch_size)
        self.steps = 0
        self.longest = int(rows.window_lengths.max())

    def run(self, verbose: int) -> list[float]:
        """Train, and return the mean loss a predicted token of each epoch.

        Raises
        ------
        NonFiniteLossError
            If the loss is NaN or infinite.
        TrainingInterrupted
            After Ctrl-C or SIGTERM.
        """
        losses: list[float] = []
        self.model.train()
        rows = self.options.epochs * self.rows.n_windows
        with InterruptGuard() as guard, training_progress(verbose, rows) as progress:
            for epoch in range(self.options.epochs):
                losses.append(self._epoch(guard, progress))
                logger.info("Epoch %d of %d: loss %.4f", epoch + 1, self.options.epochs, losses[-1])
        self.model.eval()
        return losses

    def _epoch(self, guard: InterruptGuard, progress: Progress) -> float:
        """Learn from all rows once."""
        total, predicted = 0.0, 0
        for batch in shuffled_batches(self.rows.window_lengths, self.options.batch_size, self.generator):
            if guard.received is not None:
                raise TrainingInterrupted("Pretraining was interrupted; nothing was written.", None, guard.received)
            loss, n = self._step(batch)
            progress.advance(loss, len(batch))
            total, predicted = total + loss * n, predicted + n
        return total / max(1, predicted)

    def _step(self, batch: NDArray[np.int64]) -> tuple[float, int]:
        """Learn from some rows; return the mean loss of what was predicted, and how many tokens that were."""
        self.optimizers.set_learning_rate(schedule_factor(self.steps, self.total_steps, self.options))
        self.optimizers.zero_grad()
        ids, mask = self._padded(batch)
        with autocast(self.model.device, self.precision):
            loss, n = self.objective.loss(self.model, ids, mask, self.generator)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise NonFiniteLossError(
                f"The loss of pretraining became {value} in step {self.steps + 1} of {self.total_steps}. "
                f"Use a lower learning_rate than {self.options.learning_rate}."
            )
        torch.autograd.backward(loss)
        if self.options.max_grad_norm is not None:
            clip_gradients(self.optimizers.parameters(), self.options.max_grad_norm)
        self.optimizers.step()
        self.steps += 1
        return value, n

    def _padded(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return rows whose length is one of few: torch keeps what it prepared for each shape of a product."""
        pad = self.model.config.pad_token_id
        ids, mask = self.rows.padded(batch, pad, "right")
        missing = min(-(ids.shape[1] - 1) % _LENGTHS, self.longest - ids.shape[1])
        return (np.pad(ids, ((0, 0), (0, missing)), constant_values=pad), np.pad(mask, ((0, 0), (0, missing))))


def _optimizers(model: PreTrainedModel, options: TrainingOptions) -> Optimizers:
    """Return AdamW over all weights; vectors have no weight decay."""
    assert options.learning_rate is not None
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim >= 2) is matrices], "weight_decay": decay}
        for matrices, decay in ((True, options.weight_decay), (False, 0.0))
    ]
    # The second moment forgets faster than in AdamW's default: such runs have few steps.
    adamw = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
    for group in adamw.param_groups:
        group["peak_lr"] = group["lr"]
    return Optimizers([adamw], [])
