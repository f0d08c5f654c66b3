"""Continual fine-tuning: a fitted model learns from more rows, and takes further labels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlclf.exceptions import IncompatibleComponentsError, InvalidInputError
from mlclf.fitting import FEWEST_VALIDATION_ROWS, Plan, decide, rows_to_keep, run_precision, train_model
from mlclf.interfaces import LabelStatistics
from mlclf.labels import Label, LabelSpace, check_trainable
from mlclf.matching import check_training
from mlclf.model import Model
from mlclf.model_selection import stratified_split
from mlclf.network import MultiLabelNetwork
from mlclf.plugins.spec import PART_KINDS
from mlclf.replay import ReplayBuffer
from mlclf.rows import Rows
from mlclf.strategies.auto import AutoOptions
from mlclf.thresholds import Thresholds
from mlclf.training.device import seeded
from mlclf.training.epochs import check_augmentation
from mlclf.training.restore import digest, restored_on_failure

logger = logging.getLogger(__name__)

# Two texts on which a head that has grown is compared with what it was. Rounding is far below the tolerance, and the
# influence of a label on another one far above.
_PROBES, _TOLERANCE = ("a", "two words"), 1e-5


@dataclass(frozen=True)
class NewRows:
    """Rows that a fitted model is to learn from.

    Parameters
    ----------
    rows : Rows
    validation : Rows, float or None
        Rows to validate on; or the share of the new rows that is held out and joined by validation rows kept from
        before; or None for no validation.
    """

    rows: Rows
    validation: Rows | float | None


@dataclass(frozen=True)
class _Division:
    """New rows to learn from, new rows to validate on, and all rows to validate on."""

    training: Rows
    held_out: Rows | None
    validation: Rows | None


def continue_model(plan: Plan, model: Model, new: NewRows) -> Model:
    """Train a fitted model further, on new rows and on rows kept from before.

    The network is shared: the weights of ``model`` change with it where training succeeds, and stay as they are where
    it fails or is interrupted.

    Parameters
    ----------
    plan : Plan
        With the labels of the model.
    model : Model
    new : NewRows

    Returns
    -------
    Model
        With the same components and labels; thresholds, calibration, counts and the rows kept are new.

    Raises
    ------
    InvalidInputError
        If there is nothing to learn from.
    TrainingError, TrainingInterrupted
    """
    buffer = _buffer(plan, model)
    replayed = buffer.thinned(plan.replay, plan.seed)
    division = _divided(new, replayed.validation.rows, plan.seed)
    rows = division.training.followed_by(replayed.training.rows)
    check_trainable(rows.targets)
    precision = run_precision(plan.training, model.device)
    after = _counted(model.statistics, division.training, rows)
    start = digest(model.network) if plan.training.checkpoint_dir or plan.training.resume_from else None
    with seeded(plan.seed), restored_on_failure(model.network):
        continued = replace(
            _with_head(model, after),
            training=plan.training,
            replay=rows_to_keep(plan, buffer, division.training, division.held_out),
            replay_options=plan.replay,
            metrics={},
        )
        train_set = continued.dataset(rows.texts, rows.targets)
        train_model(plan, continued, train_set, rows, division.validation, precision, start=start)
        if division.validation is not None:
            continued.calibrator = None
        decide(_with_thresholds_for_all(plan), continued, division.validation)
    return continued


def grow_model(model: Model, labels: Iterable[Label], seed: int) -> Model:
    """Return a model with further labels that answers for those it had as before; the given one stays as it is.

    A head that declares its answers relative to all labels answers anew for all of them.

    Parameters
    ----------
    model : Model
    labels : iterable of str or int
        New names; their columns are the last ones.
    seed : int
        Of the new labels' first weights.

    Raises
    ------
    InvalidInputError
        If a name is not new, empty, or of another type than the others.
    IncompatibleComponentsError
        If the head cannot take further labels.
    """
    space = _space_with(model.labels, labels)
    added = np.zeros(space.n_labels - model.labels.n_labels, dtype=np.int64)
    after = LabelStatistics(
        names=tuple(str(name) for name in space.names),
        positives=np.append(model.statistics.positives, added),
        known=np.append(model.statistics.known, added),
    )
    with seeded(seed):
        grown = replace(
            _with_head(model, after),
            labels=space,
            thresholds=model.thresholds.extended(space.n_labels),
            replay=None if model.replay is None else model.replay.widened(space.n_labels),
        )
    if not model.parts.head_capabilities.relative:
        _check_undisturbed(model, grown)
    return grown


def continued_plan(plan: Plan, model: Model) -> Plan:
    """Return the plan with the components of the model, which is refused where other ones are asked for.

    Strategy ``"auto"`` stands for the one that was chosen in the fit.

    Raises
    ------
    IncompatibleComponentsError
        Naming the parameter that was changed after the fit.
    """
    for kind in PART_KINDS:
        fitted, given = getattr(model.parts, kind), getattr(plan.parts, kind)
        if fitted != given and not isinstance(given, AutoOptions):
            raise IncompatibleComponentsError(
                f"The fitted model has {kind} {fitted!r}, and the parameter {kind!r} is now {given!r}. partial_fit "
                "goes on with the weights that there are: set the parameter back, or call fit. Learning rates can be "
                "changed with TrainingOptions(learning_rate=..., head_learning_rate=...)."
            )
    check_training(model.parts, plan.training)
    check_augmentation(plan.training.augmentation, model.parts.backbone_class, model.parts.head_class)
    return replace(plan, parts=model.parts)


def check_same_classes(classes: Iterable[Label] | None, labels: LabelSpace) -> None:
    """Refuse ``classes=`` that are not those of the fitted model.

    Raises
    ------
    InvalidInputError
        Naming ``add_labels``.
    """
    if classes is not None and LabelSpace(tuple(classes)) != labels:
        raise InvalidInputError(
            f"classes must be the {labels.n_labels} labels of the fitted model in its order, or be left out. To "
            "teach it further labels call add_labels([...]) first."
        )


def _buffer(plan: Plan, model: Model) -> ReplayBuffer:
    """Return the rows kept from before; say so where there should be some and are none."""
    if model.replay is not None:
        return model.replay
    if plan.replay.share and model.statistics.known.any():
        warnings.warn(
            "This model holds no rows from before: it was saved without them, or fitted with replay=None. What it "
            "knows may be forgotten while it learns from the new rows alone. Save with save(folder, "
            "include_replay=True), or add earlier rows to X and Y. replay=None says that this is meant.",
            stacklevel=4,
        )
    return ReplayBuffer.empty(model.labels.n_labels)


def _divided(new: NewRows, kept: Rows, seed: int) -> _Division:
    """Divide new rows into those to learn from and those to validate on, which validation rows from before join."""
    rows, share = new.rows, new.validation
    if isinstance(share, Rows):
        return _Division(rows, share, share)
    if not share:
        return _Division(rows, None, None)
    n_held_out = min(round(len(rows) * share), len(rows) - 1)
    if n_held_out + len(kept) < FEWEST_VALIDATION_ROWS:
        logger.warning(
            "%d new rows and %d validation rows from before leave fewer than %d for validation: all new rows are used "
            "for training, the last weights are kept, and thresholds and calibration stay as they were. Give "
            "validation_data= or more rows.",
            len(rows), len(kept), FEWEST_VALIDATION_ROWS,
        )  # fmt: skip
        return _Division(rows, None, None)
    if not n_held_out:
        return _Division(rows, None, kept)
    training, held_out = (rows.take(part) for part in stratified_split(rows.targets, n_held_out, seed))
    return _Division(training, held_out, held_out.followed_by(kept))


def _counted(before: LabelStatistics, new: Rows, rows: Rows) -> LabelStatistics:
    """Return the counts of all rows so far, each counted once, with the targets that are learned from now."""
    return LabelStatistics(
        names=before.names,
        positives=before.positives + new.targets.positives,
        known=before.known + new.targets.known_counts,
        targets=rows.targets,
    )


def _with_head(model: Model, after: LabelStatistics) -> Model:
    """Return the model with a head for other counts or more labels; the backbone is shared."""
    backbone = model.network.backbone
    head = model.network.head.grow(backbone, model.statistics, after)
    network = MultiLabelNetwork(backbone, head).to(model.device).eval()
    return replace(model, network=network, statistics=replace(after, targets=None))


def _with_thresholds_for_all(plan: Plan) -> Plan:
    """Return the plan with given thresholds extended to labels that were added since they were given."""
    given = plan.thresholds
    return replace(plan, thresholds=given.extended(plan.labels.n_labels)) if isinstance(given, Thresholds) else plan


def _space_with(space: LabelSpace, labels: Any) -> LabelSpace:
    """Return a label space with further labels."""
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise InvalidInputError(f"add_labels takes a list of new labels, got {labels!r}. Wrap it: [{labels!r}].")
    names = tuple(labels)
    if not names:
        raise InvalidInputError("add_labels needs at least one new label, got none.")
    known = next((name for name in names if name in space.names), None)
    if known is not None:
        raise InvalidInputError(f"Label {known!r} is known to the model already. Name new labels only.")
    kinds = {isinstance(name, str) for name in space.names}
    grown = LabelSpace((*space.names, *names))
    strange = next((name for name in names if len(kinds) == 1 and isinstance(name, str) not in kinds), None)
    if strange is not None:
        raise InvalidInputError(
            f"The labels of the model are {'text' if True in kinds else 'whole numbers'}, got {strange!r} "
            f"({type(strange).__name__}). Name new labels in the same way."
        )
    return grown


def _check_undisturbed(before: Model, after: Model) -> None:
    """Refuse a head whose answers for the labels it had change with the new ones."""
    n_labels = before.labels.n_labels
    difference = np.abs(after.probabilities(_PROBES)[:, :n_labels] - before.probabilities(_PROBES))
    if not difference.max() <= _TOLERANCE:
        raise IncompatibleComponentsError(
            f"Head {before.parts.names['head']!r} answers otherwise for known labels once there are more (by "
            f"{difference.max():.1e}). Fit a new model on all rows with all labels."
        )
