"""The supervised training loop: epochs, evaluation, early stopping, checkpoints and resumption."""

from __future__ import annotations

import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from numpy.typing import NDArray
from torch import Tensor

from mlclf.backbones.feed_forward import known_signatures
from mlclf.batching import EncodedDataset, Rows, shuffled_batches
from mlclf.exceptions import NonFiniteLossError, TrainingInterrupted
from mlclf.interfaces import Strategy
from mlclf.network import MultiLabelNetwork
from mlclf.options import TrainingOptions
from mlclf.quantized import count_weights
from mlclf.training.cache import cached, can_cache
from mlclf.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from mlclf.training.device import Precision, fast_products
from mlclf.training.epochs import EpochData, check_same_translations
from mlclf.training.evaluation import evaluate_run
from mlclf.training.history import Evaluation, History
from mlclf.training.interrupt import InterruptGuard
from mlclf.training.optim import make_optimizers, schedule_factor
from mlclf.training.progress import Progress, training_progress
from mlclf.training.step import Stepper

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a training run is made of.

    Parameters
    ----------
    network : MultiLabelNetwork
        Adapted by ``strategy``, on the accelerator's device when training starts.
    strategy : Strategy
    train : EpochData
        Training rows with targets: an EncodedDataset, or rows that change from epoch to epoch.
    weights : ndarray of float32, shape (n_samples,)
        Weight of each training row.
    validation : EncodedDataset or None
        Rows that decide which weights are best.
    options : TrainingOptions
    seed : int
        Of the order of rows.
    precision : {"fp32", "bf16", "fp16"}
    fingerprint : dict
        What must be equal for a checkpoint to be continued.
    verbose : int
    """

    network: MultiLabelNetwork
    strategy: Strategy
    train: EpochData
    weights: NDArray[np.float32]
    validation: EncodedDataset | None
    options: TrainingOptions
    seed: int
    precision: Precision
    fingerprint: dict[str, Any]
    verbose: int


def train(run: Run, accelerator: Accelerator) -> History:
    """Train a network in place and leave the best weights in it.

    Parameters
    ----------
    run : Run
    accelerator : Accelerator
        Device, precision and processes.

    Returns
    -------
    History

    Raises
    ------
    InvalidInputError
        If several processes were given different back-translations.
    NonFiniteLossError
        If the loss becomes NaN or infinite.
    TrainingMemoryError
        If one sample does not fit into memory.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written where a folder for it is set.
    """
    check_same_translations(run.fingerprint, accelerator)
    run.network.to(accelerator.device)
    if run.options.gradient_checkpointing:
        run.network.backbone.enable_gradient_checkpointing()
    run = _with_cached_layers(run, accelerator.device)
    optimizers = make_optimizers(
        run.network,
        run.strategy,
        run.options,
        sparse_gradients=accelerator.num_processes == 1 and accelerator.device.type == "cpu",
    )
    loop = _Loop(run, accelerator, _stepper(run, accelerator, optimizers))
    try:
        with InterruptGuard() as guard, known_signatures(run.network):
            return loop.run_epochs(guard)
    finally:
        optimizers.close()
        accelerator.unwrap_model(loop.stepper.model, keep_fp32_wrapper=False)
        if run.options.compile:
            run.network.backbone.model._compiled_call_impl = None


def _products(run: Run, device: torch.device) -> AbstractContextManager[None]:
    """Return a context of the fast products, where neither the compiler nor checkpointing rules them out."""
    ruled_out = run.options.compile or run.options.gradient_checkpointing
    return nullcontext() if ruled_out else fast_products(device, run.precision)


def _stepper(run: Run, accelerator: Accelerator, optimizers: Any) -> Stepper:
    if run.options.compile:
        run.network.backbone.model.compile(dynamic=True)
    model = accelerator.prepare_model(run.network)
    if _wraps_optimizers(accelerator):
        optimizers.all = [accelerator.prepare_optimizer(optimizer) for optimizer in optimizers.all]
    return Stepper(
        accelerator=accelerator,
        model=model,
        products=lambda: _products(run, accelerator.device),
        weights=run.weights,
        optimizers=optimizers,
        penalty=lambda: run.strategy.penalty(run.network.backbone),
        max_grad_norm=run.options.max_grad_norm,
    )


def _wraps_optimizers(accelerator: Accelerator) -> bool:
    """Say whether accelerate has anything to do in an optimizer step.

    Where it has not, its wrapper still looks for an installed package twice a step, and inspects a signature: half a
    millisecond beside steps of 10 to 100.
    """
    return accelerator.scaler is not None or accelerator.distributed_type is not DistributedType.NO


def _with_cached_layers(run: Run, device: torch.device) -> Run:
    """Replace both data sets by ones that start above the constant layers, where that saves work."""
    n_layers = run.strategy.constant_layers(run.network.backbone)
    if n_layers == 0 or run.options.epochs == 1 or not can_cache(run.network.head):
        return run
    if not isinstance(run.train, EncodedDataset):
        logger.warning(
            "The outputs of %d constant layers are computed anew in every epoch, because the training texts change: "
            "TrainingOptions(augmentation=None) would compute them once.",
            n_layers,
        )
        return run
    budget = run.options.cache_memory
    train_rows = cached(run.train, n_layers, budget, device, run.precision)
    if train_rows is run.train or run.validation is None:
        return replace(run, train=train_rows)
    validation = cached(run.validation, n_layers, budget, device, run.precision)
    return replace(run, train=train_rows, validation=validation)


class _Loop:
    """The state of one run while it goes on."""

    def __init__(self, run: Run, accelerator: Accelerator, stepper: Stepper) -> None:
        self.run, self.accelerator, self.stepper = run, accelerator, stepper
        self.state = RunState(
            history=History(
                precision=run.precision,
                n_trainable=sum(p.numel() for p in run.network.trainable().values()),
                n_parameters=count_weights(run.network),
                cached_layers=getattr(run.train, "first_layer", 0),
            )
        )
        batches = math.ceil(len(run.train) / run.options.batch_size)
        self.steps_per_epoch = math.ceil(batches / (run.options.gradient_accumulation * accelerator.num_processes))
        self.total_steps = self.steps_per_epoch * run.options.epochs
        self.started = time.perf_counter()

    def run_epochs(self, guard: InterruptGuard) -> History:
        options, position = self.run.options, self.state.position
        if options.resume_from is not None:
            self._resume(Path(options.resume_from))
            position = self.state.position
        done = min(position.step * options.batch_size, len(self.run.train) * options.epochs)
        verbose = self.run.verbose if self.accelerator.is_main_process else 0
        with training_progress(verbose, len(self.run.train) * options.epochs, done) as progress:
            while position.epoch < options.epochs and not self.state.history.stopped_early:
                self._run_epoch(guard, progress)
        if self.state.best:
            for name, parameter in self.run.network.trainable().items():
                parameter.data.copy_(self.state.best[name])
        return self.state.history

    def _run_epoch(self, guard: InterruptGuard, progress: Progress) -> None:
        """Run the rest of the current epoch."""
        position = self.state.position
        self._train_mode()
        self.stepper.dataset = self.run.train.epoch(position.epoch)
        steps = self._epoch_steps(position.epoch)
        marks = self._evaluation_marks()
        while position.batch < len(steps):
            self._step(steps[position.batch], progress)
            if position.batch in marks:
                self._evaluate()
                self._train_mode()
            if guard.received is not None:
                self._interrupted(guard.received)
        position.epoch, position.batch = position.epoch + 1, 0
        if self.run.options.checkpoint_dir is not None:
            self._checkpoint()

    def _train_mode(self) -> None:
        self.run.network.train()
        self.run.strategy.set_train_mode(self.run.network.backbone)

    def _epoch_steps(self, epoch: int) -> list[list[Rows]]:
        """Return this process's batches of each optimizer step of an epoch; the same in every run of a seed."""
        generator = np.random.default_rng([self.run.seed, epoch])
        batches = shuffled_batches(self.stepper.dataset.lengths, self.run.options.batch_size, generator)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        per_step = self.run.options.gradient_accumulation * world
        # Every process must take part in every step: the last step is filled up from the start of the epoch.
        if world > 1:
            batches += batches[: self.steps_per_epoch * per_step - len(batches)]
        return [batches[i : i + per_step][rank::world] for i in range(0, len(batches), per_step)]

    def _evaluation_marks(self) -> set[int]:
        """Return after how many steps of an epoch the validation rows are scored."""
        parts = self.run.options.evaluations_per_epoch
        return {math.ceil(self.steps_per_epoch * (i + 1) / parts) for i in range(parts)}

    def _step(self, batches: list[Rows], progress: Progress) -> None:
        position, optimizers = self.state.position, self.stepper.optimizers
        optimizers.set_learning_rate(schedule_factor(position.step, self.total_steps, self.run.options))
        try:
            loss = self.stepper.step(batches)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"{error} at step {position.step + 1} of {self.total_steps} (epoch {position.epoch + 1}). Use a lower "
                "TrainingOptions(learning_rate=...), precision='fp32', or look for extreme sample weights."
            ) from None
        position.step, position.batch = position.step + 1, position.batch + 1
        position.loss_sum, position.loss_steps = position.loss_sum + loss, position.loss_steps + 1
        progress.advance(loss, sum(len(rows) for rows in batches) * self.accelerator.num_processes)

    def _evaluate(self) -> None:
        """Score the validation rows, remember the best weights, and count how long nothing improved."""
        run, position, history = self.run, self.state.position, self.state.history
        metrics: dict[str, float] = {}
        if run.validation is not None:
            metrics = evaluate_run(run.network, run.validation, self.accelerator.device, run.precision)
        evaluation = Evaluation(
            epoch=position.epoch + position.batch / self.steps_per_epoch,
            step=position.step,
            train_loss=position.loss_sum / max(1, position.loss_steps),
            seconds=self._seconds(),
            metrics=metrics,
        )
        position.loss_sum, position.loss_steps = 0.0, 0
        history.evaluations.append(evaluation)
        figures = " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        logger.info("epoch %.2f: train loss %.4f %s", evaluation.epoch, evaluation.train_loss, figures)
        if metrics:
            self._compare(metrics)

    def _compare(self, metrics: dict[str, float]) -> None:
        run, position, history = self.run, self.state.position, self.state.history
        monitor = run.options.monitor
        score = -metrics["loss"] if monitor == "loss" else metrics[monitor]
        if position.best_score is None or score > position.best_score:
            position.best_score, position.bad_evaluations = score, 0
            history.best = len(history.evaluations) - 1
            self.state.best = _copy(run.network)
            return
        position.bad_evaluations += 1
        patience = run.options.early_stopping_patience
        if patience is not None and position.bad_evaluations >= patience * run.options.evaluations_per_epoch:
            history.stopped_early = True
            logger.info("Stopped early: %s has not improved for %d epochs.", monitor, patience)

    def _interrupted(self, number: int) -> None:
        folder = self.run.options.checkpoint_dir
        if folder is None:
            raise TrainingInterrupted(
                "Training was interrupted and nothing was kept. Set TrainingOptions(checkpoint_dir=...) to be able to "
                "continue next time.",
                None,
                number,
            )
        saved = self._checkpoint()
        raise TrainingInterrupted(
            f"Training was interrupted; a checkpoint was written. Continue with "
            f"TrainingOptions(resume_from={str(saved)!r}).",
            saved,
            number,
        )

    def _checkpoint(self) -> Path:
        folder = Path(str(self.run.options.checkpoint_dir))
        self.state.position.seconds, self.state.splits = self._seconds(), self.stepper.splits
        if self.accelerator.is_main_process:
            save_checkpoint(folder, self.run.fingerprint, self.run.network, self.stepper.optimizers, self.state)
        self.accelerator.wait_for_everyone()
        return folder

    def _resume(self, folder: Path) -> None:
        self.state = load_checkpoint(folder, self.run.fingerprint, self.run.network, self.stepper.optimizers)
        self.stepper.splits = self.state.splits
        self.started = time.perf_counter() - self.state.position.seconds

    def _seconds(self) -> float:
        return time.perf_counter() - self.started


def _copy(network: MultiLabelNetwork) -> dict[str, Tensor]:
    """Return what learns as tensors in main memory, so that the best weights take none of the GPU's."""
    return {name: p.detach().to("cpu", copy=True) for name, p in network.trainable().items()}
