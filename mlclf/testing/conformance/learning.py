"""Checks of learning: gradients, a whole fit, and what belongs to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlclf.exceptions import ConformanceError
from mlclf.options import TrainingOptions
from mlclf.testing.conformance.samples import DIFFICULT_TEXTS, targets_for
from mlclf.testing.conformance.workbench import Assembled, Workbench
from mlclf.testing.fakes import tiny_texts
from mlclf.training.device import seeded

_SHOWN = 3
_SEED = 20_011


def check_gradients(bench: Workbench) -> None:
    """The loss sends a finite gradient to every parameter that learns."""
    for case in bench.cases:
        made = bench.assemble_anew(case)
        _train_step(made)
        gradients = {name: parameter.grad for name, parameter in made.network.trainable().items()}
        if not gradients:
            raise ConformanceError(f"Nothing learns in {made.title}: no parameter has requires_grad=True.")
        if cut_off := [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]:
            raise ConformanceError(
                f"No gradient reaches {len(cut_off)} of {len(gradients)} parameters of {made.title}: "
                f"{', '.join(cut_off[:_SHOWN])}. Use them in the forward pass without detach(), .data or no_grad, or "
                "set requires_grad=False."
            )
        if odd := [name for name, gradient in gradients.items() if not _finite(gradient)]:
            raise ConformanceError(f"The gradients of {', '.join(odd[:_SHOWN])} of {made.title} are not finite.")


def check_unknown_cells_are_left_out(bench: Workbench) -> None:
    """Cells of which nobody knows whether the label applies take no part in the loss."""
    for case in bench.cases:
        made = bench.assemble(case)
        n = len(made.data)
        targets = targets_for(made.statistics.names, unknown=True)
        head, backbone = made.network.head, made.backbone
        batch = head.collate(backbone, made.data.encoded, np.arange(n), targets)
        with torch.no_grad():
            losses = head.losses(backbone, batch)
        if losses.shape != (n,) or not torch.isfinite(losses).all():
            raise ConformanceError(
                f"With unknown cells the losses of {made.title} have shape {tuple(losses.shape)} or are not finite. "
                "Where batch.known is False a cell counts nothing; a text without known cells has a loss of 0."
            )
        if batch.known is None or batch.targets is None or not made.parts.head_capabilities.logits:
            continue
        # Losses that compare the labels of a text with each other may have another value for another truth of a cell,
        # but not for one that is marked as unknown.
        other = torch.where(batch.known, batch.targets, 1 - batch.targets)
        with torch.no_grad():
            again = head.losses(backbone, replace(batch, targets=other))
        if not torch.allclose(losses, again, atol=1e-6):
            raise ConformanceError(
                f"The losses of {made.title} depend on the targets of cells where batch.known is False. Give "
                "batch.known to the loss, and weigh these cells with 0."
            )


def check_fit(bench: Workbench) -> str:
    """Fitted on 32 texts, the classifier's loss stays finite and falls, and predictions have their forms."""
    clf = bench.fitted()
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    if not np.isfinite(losses).all():
        raise ConformanceError(f"The training losses of {bench.cases[0].title} are {losses}.")
    if losses[-1] >= losses[0]:
        raise ConformanceError(
            f"The training loss of {bench.cases[0].title} rose from {losses[0]:.4f} to {losses[-1]:.4f} in "
            f"{len(losses)} epochs over 32 texts. Check the sign of the loss, and LearningRates."
        )
    texts = tiny_texts(5, seed=2)
    probabilities, indicator = clf.predict_proba(texts), clf.predict(texts)
    if probabilities.shape != (5, 4) or probabilities.dtype != np.float32 or not np.isfinite(probabilities).all():
        raise ConformanceError(f"predict_proba gives {probabilities.dtype} of shape {probabilities.shape}.")
    if not np.array_equal(np.asarray(indicator), clf.thresholds_.apply(probabilities)):
        raise ConformanceError("predict differs from the thresholds applied to predict_proba.")
    seconds = clf.history_.evaluations[-1].seconds
    return f"loss {losses[0]:.3f} to {losses[-1]:.3f} in {seconds:.1f} s"


def check_difficult_rows(bench: Workbench) -> None:
    """Empty, very long and foreign texts, labels that always or never apply, and unknown cells can be learned from."""
    texts = [*tiny_texts(16), *DIFFICULT_TEXTS]
    cells = np.zeros((len(texts), 4), dtype=np.float32)
    cells[:, 0] = 1
    cells[::2, 1] = 1
    cells[3:9, 2] = np.nan
    training = TrainingOptions(epochs=1, batch_size=8, precision="fp32")
    clf = bench.classifier(bench.cases[0], validation=None, training=training).fit(texts, cells)
    answers = clf.predict_proba(DIFFICULT_TEXTS)
    if not np.isfinite(answers).all():
        rows = [DIFFICULT_TEXTS[row][:20] for row in np.flatnonzero(~np.isfinite(answers).all(axis=1))]
        raise ConformanceError(f"The probabilities of {rows} are not finite.")


def check_fit_is_repeatable(bench: Workbench) -> None:
    """Two fits with one random_state give the same probabilities, and leave the global random states alone."""
    case, texts = bench.cases[0], tiny_texts(6, seed=3)
    with random_states() as unchanged:
        again = bench.fit(case)
        if changed := unchanged():
            raise ConformanceError(
                f"A fit changes the global random state of {changed}. Draw inside torch.random.fork_rng, or from a "
                "generator of your own."
            )
    change = float(np.abs(bench.fitted(case).predict_proba(texts) - again.predict_proba(texts)).max())
    if change > 1e-6:
        raise ConformanceError(
            f"Two fits of {case.title} with random_state=0 differ by {change:.1e}. Draw start values from torch's "
            "random state, which fit has seeded, and depend on no order of sets."
        )


def _train_step(made: Assembled) -> None:
    """Compute the gradients of a training step over all texts."""
    network = made.network.train()
    made.strategy.set_train_mode(made.backbone)
    with seeded(0):
        losses = network(made.batch())
        penalty = made.strategy.penalty(made.backbone)
    (losses.mean() if penalty is None else losses.mean() + penalty).backward()


@contextmanager
def random_states() -> Iterator[Callable[[], str]]:
    """Put the global random states at a place where no fit leaves them, and back afterwards.

    Yields
    ------
    callable
        Names the library whose state has changed since; empty where none has.
    """
    before: Any = np.random.get_state()  # noqa: NPY002  # the state that other code uses
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        first, state = torch.random.get_rng_state(), _numpy_state()

        def changed() -> str:
            if not torch.equal(first, torch.random.get_rng_state()):
                return "torch"
            return "" if state == _numpy_state() else "NumPy"

        try:
            yield changed
        finally:
            np.random.set_state(before)  # noqa: NPY002


def _numpy_state() -> str:
    state: Any = np.random.get_state()  # noqa: NPY002
    return f"{state[1].tolist()} {state[2:]}"


def _finite(gradient: Tensor | None) -> bool:
    if gradient is None:
        return False
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(torch.isfinite(values).all())
