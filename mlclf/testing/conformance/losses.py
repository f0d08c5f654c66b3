"""Checks of losses: what a loss makes of logits, targets and unknown cells."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mlclf.exceptions import ConformanceError
from mlclf.testing.conformance.loss_rows import SURE, loss_rows, make_one, rare_counts
from mlclf.testing.conformance.outputs import LABEL_COUNTS, left_behind
from mlclf.testing.conformance.results import NotApplicable
from mlclf.testing.conformance.workbench import Workbench

_ROUNDING = 1e-5
_EXTREME = (30.0, 100.0, 10_000.0)
_TYPES = (torch.bool, torch.int64, torch.float32)


def check_loss_values(bench: Workbench) -> None:
    """A loss gives one finite float32 figure a sample, with unknown cells and without; 0 where nothing is known."""
    for n_labels in LABEL_COUNTS:
        loss = make_one(bench, n_labels)
        for n_samples in (1, 8):
            rows = loss_rows(n_samples, n_labels)
            for known in (None, rows.known):
                for dtype in _TYPES:
                    losses = loss(rows.logits, rows.targets.to(dtype), known)
                    _check_form(losses, n_samples, f"{n_labels} labels and targets of {dtype}")
                if known is not None and losses[-1] != 0:
                    raise ConformanceError(
                        f"A sample without known cells has the loss {losses[-1]:g} instead of 0. Leave forward as "
                        "MultiLabelLoss has it, and write rows or cells."
                    )


def check_loss_precision(bench: Workbench) -> None:
    """A loss is computed in float32: logits of 16 bits and mixed precision cost no accuracy, float64 stays float64."""
    loss, rows = make_one(bench), loss_rows()
    for dtype in (torch.bfloat16, torch.float16):
        logits = rows.logits.to(dtype)
        found, expected = loss(logits, rows.targets), loss(logits.float(), rows.targets)
        if found.dtype != torch.float32 or not _close(found, expected):
            raise ConformanceError(
                f"Logits of {dtype} have losses of {found.dtype} that differ from those of the same logits in float32 "
                f"by {_distance(found, expected):.1e}. Compute in float32, as MultiLabelLoss.forward does."
            )
    expected = loss(rows.logits, rows.targets)
    exact = loss(rows.logits.double(), rows.targets)
    if exact.dtype != torch.float64 or _distance(exact, expected) > 1e-3:
        raise ConformanceError(f"Logits of float64 have losses of {exact.dtype}; they must stay float64.")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(rows.logits, rows.targets)
    if not _close(mixed, expected):
        raise ConformanceError(
            f"Under mixed precision the losses change by {_distance(mixed, expected):.1e}: a matrix product in a loss "
            "is rounded to 16 bits there. Compute inside `with without_autocast(logits.device.type)` (mlclf.heads)."
        )


def check_loss_gradients(bench: Workbench) -> None:
    """A finite gradient flows to the logits of every sample that has labels, from logits of 32 and of 16 bits."""
    loss, rows = make_one(bench), loss_rows()
    for dtype in (torch.float32, torch.bfloat16):
        logits = rows.logits.to(dtype).requires_grad_()
        losses = loss(logits, rows.targets)
        gradient = _gradient(losses, logits)
        if gradient is None:
            raise ConformanceError(
                "The loss has no gradient with respect to the logits. Use them without detach(), .data or no_grad, "
                "and do not count answers: a decision has no gradient."
            )
        if not torch.isfinite(gradient).all():
            raise ConformanceError(f"The gradient of the loss is not finite: {gradient}.")
        if not gradient[rows.labelled].any(dim=1).all():
            raise ConformanceError("No gradient reaches the logits of some sample that has labels.")


def check_loss_batch_changes_nothing(bench: Workbench) -> None:
    """A sample's loss does not depend on the samples beside it, so that a batch may be computed in parts."""
    loss, rows = make_one(bench), loss_rows()
    together = loss(rows.logits, rows.targets, rows.known)
    parts = [slice(row, row + 1) for row in range(len(rows.logits))]
    alone = torch.cat([loss(rows.logits[part], rows.targets[part], rows.known[part]) for part in parts])
    turned = loss(rows.logits.flip(0), rows.targets.flip(0), rows.known.flip(0)).flip(0)
    for how, losses in (("alone", alone), ("in another order", turned)):
        if not _close(losses, together):
            raise ConformanceError(
                f"A sample {how} has another loss, by {_distance(losses, together):.1e}. A batch that does not fit "
                "into memory is computed in parts: take no mean over samples and no statistics of a batch. What "
                "depends on the data comes from the counts in from_statistics."
            )


def check_loss_unknown_cells(bench: Workbench) -> None:
    """Cells that are not known have no part in the loss: neither their logits nor their targets, and no gradient."""
    loss, rows = make_one(bench), loss_rows()
    hidden = ~rows.known
    losses = loss(rows.logits, rows.targets, rows.known)
    for what, logits, targets in (
        ("targets", rows.logits, torch.where(hidden, 1 - rows.targets, rows.targets)),
        ("logits", torch.where(hidden, 50 - rows.logits, rows.logits), rows.targets),
    ):
        found = loss(logits, targets, rows.known)
        if not _close(found, losses):
            raise ConformanceError(
                f"The loss depends on the {what} of cells where known is False, by {_distance(found, losses):.1e}. "
                "Leave these cells out of every sum, mean and maximum."
            )
    complete = torch.ones_like(rows.known)
    if not _close(loss(rows.logits, rows.targets, complete), loss(rows.logits, rows.targets)):
        raise ConformanceError("The loss differs between known=None and a mask in which every cell is known.")
    logits = rows.logits.clone().requires_grad_()
    gradient = _gradient(loss(logits, rows.targets, rows.known), logits)
    if gradient is not None and not (torch.isfinite(gradient).all() and not gradient[hidden].any()):
        raise ConformanceError(
            "A gradient reaches logits of cells where known is False, or is not finite. Fill what such a cell adds "
            "with masked_fill, and never divide by a count that may be 0."
        )


def check_loss_extreme_logits(bench: Workbench) -> None:
    """Logits up to 10,000, right and wrong, have finite losses and gradients."""
    loss, rows = make_one(bench), loss_rows()
    for size in _EXTREME:
        for sign in (1.0, -1.0):
            logits = (sign * size / SURE * rows.right).requires_grad_()
            losses = loss(logits, rows.targets)
            gradient = _gradient(losses, logits)
            if not torch.isfinite(losses).all() or (gradient is not None and not torch.isfinite(gradient).all()):
                raise ConformanceError(
                    f"{'Right' if sign > 0 else 'Wrong'} logits of {size:g} have a loss or gradient that is not "
                    f"finite: {losses.tolist()}. Stay in logarithms: F.softplus and F.logsigmoid of logits instead "
                    "of the logarithm of a sigmoid, torch.logsumexp instead of sums of exponentials."
                )


def check_loss_prefers_right_answers(bench: Workbench) -> None:
    """Wrong answers cost more than right ones, and no single wrong one is cheaper than its right one."""
    loss, rows = make_one(bench), loss_rows()
    best, worst = loss(rows.right, rows.targets), loss(-rows.right, rows.targets)
    if not (worst > best)[rows.labelled].all() or (worst < best - _ROUNDING).any():
        raise ConformanceError(
            f"Wrong answers to all labels cost {worst.tolist()}, right ones {best.tolist()}. Check the sign, and "
            "which cells are taken for positive."
        )
    for column in range(rows.targets.shape[1]):
        logits = rows.right.clone()
        logits[:, column] *= -1
        losses = loss(logits, rows.targets)
        if (cheaper := losses < best - _ROUNDING).any():
            kind = "applies" if rows.targets[cheaper, column].any() else "does not apply"
            raise ConformanceError(
                f"With a wrong answer to one label that {kind} a sample costs {float(losses[cheaper][0]):.4f}, with "
                f"right ones only {float(best[cheaper][0]):.4f}. Check the sign of that part."
            )


def check_loss_label_weights(bench: Workbench) -> None:
    """A label's weight raises the loss of samples with that label, and leaves those of all others as they are."""
    if not bench.component.weighs_labels:
        raise NotApplicable("it declares weighs_labels=False, so that heads refuse label_weights with it")
    rows, cure = loss_rows(), "Multiply by self.label_weights where the label applies, or declare weighs_labels=False."
    logits = rows.right.clone()
    logits[:, 0] *= -1
    plain = make_one(bench)(logits, rows.targets)
    once, often = (make_one(bench, weights=torch.tensor([w, 1.0, 1.0]))(logits, rows.targets) for w in (1.0, 4.0))
    if not _close(once, plain):
        raise ConformanceError(f"Weights of 1 change the loss by {_distance(once, plain):.1e}. {cure}")
    has = rows.targets[:, 0] > 0
    if not (often > plain)[has].all():
        raise ConformanceError(f"A weight of 4 does not raise the loss of samples with the label. {cure}")
    if not _close(often[~has], plain[~has]):
        raise ConformanceError(f"A label's weight changes the loss of samples without the label. {cure}")


def check_loss_follows_from_counts(bench: Workbench) -> None:
    """A loss has no weights of its own, moves with .to(device), and is made from counts alone, also of rare labels."""
    loss = make_one(bench)
    if saved := [*dict(loss.named_parameters()), *loss.state_dict()]:
        raise ConformanceError(
            f"The loss has weights that would be saved: {', '.join(sorted(set(saved)))}. It follows from options and "
            "counts: register_buffer(name, tensor, persistent=False)."
        )
    moved = copy.deepcopy(loss).to("meta")
    if left := sorted(left_behind(moved, bench.component.__module__.partition(".")[0])):
        raise ConformanceError(
            f"{', '.join(name.lstrip('.') for name in left)} stays where it is when the loss moves to another device. "
            "Use register_buffer(name, tensor, persistent=False)."
        )
    rare, rows = rare_counts(), loss_rows(n_labels=4)
    try:
        losses = make_one(bench, counts=rare)(rows.logits, rows.targets, rows.known)
    except (AttributeError, TypeError) as error:
        raise ConformanceError(
            f"The loss cannot be made from counts without targets ({error}). LabelStatistics.targets is None where a "
            "saved model is loaded."
        ) from error
    if not torch.isfinite(losses).all():
        raise ConformanceError(
            f"With labels that no row has, that all have, or that no row tells about, losses are {losses.tolist()}. "
            "Add one to counts before dividing by them or taking their logarithm."
        )


def _check_form(losses: Tensor, n_samples: int, how: str) -> None:
    if losses.shape != (n_samples,) or losses.dtype != torch.float32:
        raise ConformanceError(
            f"With {how}, {n_samples} samples have losses of shape {tuple(losses.shape)} and {losses.dtype}; they must "
            f"have shape ({n_samples},) and float32: one figure a sample, and no mean over them."
        )
    if not torch.isfinite(losses).all():
        raise ConformanceError(f"With {how} losses are not finite: {losses.tolist()}.")


def _gradient(losses: Tensor, logits: Tensor) -> Tensor | None:
    """Return the gradient of the summed losses, None where none flows."""
    if not losses.requires_grad:
        return None
    return torch.autograd.grad(losses.sum(), logits, allow_unused=True)[0]


def _close(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left.float(), right.float(), rtol=_ROUNDING, atol=_ROUNDING)


def _distance(left: Tensor, right: Tensor) -> float:
    return float((left.float() - right.float()).abs().nan_to_num(nan=torch.inf).max())
