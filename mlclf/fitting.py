"""Fitting: from checked texts and targets to a trained model with tuned thresholds."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mlclf.assembly import build_network
from mlclf.batching import EncodedDataset, shuffled_batches
from mlclf.choosing import AutoChoice
from mlclf.encoding import EncodedTexts
from mlclf.interfaces import Backbone, Batch, LabelStatistics
from mlclf.labels import LabelSpace, YFormat
from mlclf.metrics import score
from mlclf.model import Model
from mlclf.model_selection import stratified_split
from mlclf.options import NamedOptions, TrainingOptions
from mlclf.parts import Parts
from mlclf.plugins import resolve
from mlclf.replay import ReplayBuffer, ReplayOptions
from mlclf.rows import Rows
from mlclf.thresholds import Thresholds, tune
from mlclf.training.checkpoint import checkpoint_precision
from mlclf.training.device import Precision, resolve_device, resolve_precision, seeded
from mlclf.training.epochs import augmentation_fingerprint, check_augmentation, make_epoch_data
from mlclf.training.loop import Run, train

logger = logging.getLogger(__name__)

# Fewer validation rows than this say nothing about thresholds; all rows are then used for training.
FEWEST_VALIDATION_ROWS = 10
# Sets the order of rows that a strategy starts from apart from those of the epochs, which count from 0.
_INITIAL_ORDER = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What to fit and how; all of it checked.

    Parameters
    ----------
    parts : Parts
    labels : LabelSpace
    y_format : YFormat
    training : TrainingOptions
    thresholds : str, float or Thresholds
        Rule to tune by, a fixed value for all labels, or given thresholds.
    calibration : NamedOptions or None
        Options of the calibrator that is fitted on the validation rows; None for none.
    device : torch.device
    seed : int
    verbose : int
    replay : ReplayOptions
        How many rows are kept for later.
    choice : AutoChoice or None
        Why the strategy was chosen; None where it was given.
    backbone : Backbone or None
        Loaded already, for the strategy to adapt; None loads one.
    """

    parts: Parts
    labels: LabelSpace
    y_format: YFormat
    training: TrainingOptions
    thresholds: str | float | Thresholds
    calibration: NamedOptions | None
    device: torch.device
    seed: int
    verbose: int
    replay: ReplayOptions
    choice: AutoChoice | None = None
    backbone: Backbone | None = None


def split_validation(rows: Rows, share: float | None, seed: int) -> tuple[Rows, Rows | None]:
    """Take a share of the rows for validation, by iterative stratification.

    Returns
    -------
    train, validation : Rows, Rows or None
        No validation where the share would be fewer than ten rows.
    """
    if not share:
        return rows, None
    if len(rows.texts) * share < FEWEST_VALIDATION_ROWS:
        logger.warning(
            "%d rows leave fewer than %d for validation: all are used for training, the last weights are kept and "
            "thresholds are 0.5. Give validation_data= or more rows.",
            len(rows.texts),
            FEWEST_VALIDATION_ROWS,
        )
        return rows, None
    kept, held_out = stratified_split(rows.targets, share, seed)
    return rows.take(kept), rows.take(held_out)


def fit_model(plan: Plan, train_rows: Rows, validation_rows: Rows | None) -> Model:
    """Train a network and tune what decides on labels.

    Raises
    ------
    TrainingError, TrainingInterrupted, BackboneLoadError, IncompatibleComponentsError
    """
    check_augmentation(plan.training.augmentation, plan.parts.backbone_class, plan.parts.head_class)
    statistics = LabelStatistics(
        names=tuple(str(name) for name in plan.labels.names),
        positives=train_rows.targets.positives,
        known=train_rows.targets.known_counts,
        targets=train_rows.targets,
    )
    device = process_device(plan.device)
    precision = run_precision(plan.training, device)
    with seeded(plan.seed):
        network, strategy = build_network(plan.parts, statistics, backbone=plan.backbone, device=device)
        model = Model(
            parts=plan.parts,
            network=network,
            strategy=strategy,
            labels=plan.labels,
            y_format=plan.y_format,
            statistics=replace(statistics, targets=None),
            thresholds=Thresholds.untuned(plan.labels.n_labels),
            calibrator=None,
            training=plan.training,
            history=None,  # type: ignore[arg-type]  # set once training ends
            device=device,
            replay=rows_to_keep(plan, ReplayBuffer.empty(plan.labels.n_labels), train_rows, validation_rows),
            replay_options=plan.replay,
        )
        train_set = model.dataset(train_rows.texts, train_rows.targets)
        network.to(device)
        strategy.initialise(network.backbone, _random_batches(train_set, plan, device))
        train_model(plan, model, train_set, train_rows, validation_rows, precision)
    decide(plan, model, validation_rows)
    return model


def train_model(
    plan: Plan,
    model: Model,
    train_set: EncodedDataset,
    rows: Rows,
    validation: Rows | None,
    precision: Precision,
    *,
    start: str | None = None,
) -> None:
    """Run the training loop from the model's present weights; they change in place.

    Parameters
    ----------
    plan : Plan
    model : Model
    train_set : EncodedDataset
        The training rows' texts, encoded, with their targets.
    rows, validation : Rows, Rows or None
    precision : {"fp32", "bf16", "fp16"}
    start : str or None
        What tells the weights that training starts from apart from others; None where the plan says it all.
    """
    augmented = make_epoch_data(plan.training.augmentation, train_set, rows.texts, rows.weights, plan.seed)
    run = Run(
        network=model.network,
        strategy=model.strategy,
        train=augmented,
        weights=rows.weights,
        validation=None if validation is None else model.dataset(validation.texts, validation.targets),
        options=plan.training,
        seed=plan.seed,
        precision=precision,
        fingerprint={**_fingerprint(plan, train_set.encoded, rows, start), **augmentation_fingerprint(augmented)},
        verbose=plan.verbose,
    )
    model.history = train(run, _accelerator(model.device, precision))
    model.strategy.finish(model.network.backbone)
    model.network.eval()
    model.network.head.refresh(model.network.backbone)


def rows_to_keep(plan: Plan, buffer: ReplayBuffer, training: Rows, validation: Rows | None) -> ReplayBuffer | None:
    """Return the rows to keep for later after new ones, or None where the plan keeps none."""
    if not plan.replay.share:
        return None
    nothing = Rows.none(plan.labels.n_labels)
    return buffer.with_new(training, nothing if validation is None else validation, plan.replay, plan.seed)


def _random_batches(dataset: EncodedDataset, plan: Plan, device: torch.device) -> Iterator[Batch]:
    """Yield batches of training texts in random order, as they are asked for."""
    generator = np.random.default_rng([plan.seed, _INITIAL_ORDER])
    for rows in shuffled_batches(dataset.lengths, plan.training.batch_size, generator):
        yield dataset.batch(rows).to(device)


def decide(plan: Plan, model: Model, validation: Rows | None) -> None:
    """Calibrate and tune thresholds on the validation rows, in the arithmetic that prediction uses."""
    rule = plan.thresholds
    if isinstance(rule, Thresholds):
        model.thresholds = rule
    elif isinstance(rule, float | int):
        model.thresholds = Thresholds.fixed(plan.labels.n_labels, float(rule))
    if validation is None:
        return
    probabilities = model.bounded_probabilities(validation.texts, validation.targets)
    if plan.calibration is not None:
        calibrator = resolve("calibrator", plan.calibration)[1]
        model.calibrator = calibrator.fitted(plan.calibration, probabilities, validation.targets)
        probabilities = model.calibrator.apply(probabilities)
    if isinstance(rule, str):
        model.thresholds = tune(rule, probabilities, validation.targets)
    model.metrics = score(probabilities, validation.targets, model.thresholds, names=plan.labels.names).to_dict()


def process_device(device: torch.device) -> torch.device:
    """Return this process's own GPU where several processes were launched."""
    rank = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and device.index is None and rank is not None:
        return torch.device("cuda", int(rank))
    return resolve_device(device)


def run_precision(training: TrainingOptions, device: torch.device) -> Precision:
    """Return the precision; a resumed run keeps that of its checkpoint, or it would not end at the same weights."""
    wanted: str = training.precision
    if training.resume_from is not None:
        kept = checkpoint_precision(Path(training.resume_from))
        wanted = kept if wanted == "auto" else wanted
    return resolve_precision(wanted, device)


def _accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """Make accelerate's view of this process.

    Its state is global and refuses another precision, so that a second fit of one process starts it afresh; launched
    processes keep theirs, which holds the connection to each other.
    """
    if "WORLD_SIZE" not in os.environ:
        AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(cpu=device.type == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))


def _fingerprint(plan: Plan, encoded: EncodedTexts, rows: Rows, start: str | None) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to be continued: data, components, options, seed and start."""
    data = hashlib.sha256()
    indicator = rows.targets.indicator
    for array in (encoded.ids, encoded.window_offsets, indicator.indices, indicator.indptr, rows.weights):
        data.update(np.ascontiguousarray(array).tobytes())
    training = plan.training.model_dump(
        mode="json", exclude={"checkpoint_dir", "resume_from", "num_workers", "cache_memory"}
    )
    components: dict[str, Any] = {
        kind: {"name": name, **getattr(plan.parts, kind).model_dump(mode="json")}
        for kind, name in plan.parts.names.items()
    }
    begin = {} if start is None else {"start": start}
    return {"data": data.hexdigest(), "seed": plan.seed, "training": training, **begin, **components}
