"""Checks of what comes out: partners, shapes, types, and answers that depend on a text alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mlclf.exceptions import ConformanceError
from mlclf.interfaces import LogitsHead
from mlclf.interfaces.backbone import Family
from mlclf.testing.conformance.samples import LONG, SHORT, TEXTS
from mlclf.testing.conformance.workbench import Assembled, Workbench

LABEL_COUNTS = (1, 2, 3, 28)
TOLERANCE = 1e-5

# Families for which there is a backbone to try, and its name.
_BACKBONES: dict[str, str] = {"encoder": "bert", "causal-lm": "llm", "other": "local:tiny"}
_TRIED = frozenset(_BACKBONES)


def check_partners(bench: Workbench) -> str:
    """The component goes with a backbone of every family that it declares."""
    cases = bench.cases
    if bench.kind == "backbone":
        return cases[0].title
    declared: set[str] = set(bench.capabilities.families)
    if unknown := sorted(declared - set(get_args(Family))):
        raise ConformanceError(f"families={unknown} are no families. They are {', '.join(get_args(Family))}.")
    # "other" is any module at all: what a strategy needs may be missing in the tiny one, and not in another.
    needed = declared & _TRIED - ({"other"} if bench.kind == "strategy" else set())
    for family in sorted(needed - {case.family for case in cases}):
        reasons = [reason for reason in bench.search[1] if reason.startswith(_BACKBONES[family])]
        raise ConformanceError(
            f"It declares the family {family!r} and goes with no tiny backbone of it: {' / '.join(reasons[:2])} "
            "Take the family out of its capabilities."
        )
    untried = sorted(declared - _TRIED)
    told = f"; no backbone of family {', '.join(untried)} to try" if untried else ""
    return ", ".join(f"{case.title} ({case.family})" for case in cases) + told


def check_shapes(bench: Workbench) -> None:
    """Probabilities are (n_samples, n_labels) and losses (n_samples,), for 1, 2, 3 and 28 labels and a single text."""
    for n_labels, made in _all(bench):
        for rows in ((SHORT,), tuple(range(len(TEXTS)))):
            for what, value, shape in _outputs(made, rows, n_labels):
                if tuple(value.shape) != shape:
                    raise ConformanceError(
                        f"{what} of {made.title} with {n_labels} labels and {len(rows)} texts has shape "
                        f"{tuple(value.shape)}, needed is {shape}."
                    )


def check_values(bench: Workbench) -> None:
    """Probabilities are float32 from 0 to 1, losses finite; nothing is NaN or infinite."""
    for n_labels, made in _all(bench):
        values = list(_outputs(made, tuple(range(len(TEXTS))), n_labels))
        for what, value, _ in values:
            if not torch.isfinite(value.float()).all():
                raise ConformanceError(f"{what} of {made.title} with {n_labels} labels holds NaN or infinity.")
        probabilities = made.probabilities()
        if probabilities.dtype != torch.float32:
            raise ConformanceError(f"Probabilities of {made.title} are {probabilities.dtype}. End with .float().")
        if probabilities.min() < 0 or probabilities.max() > 1:
            raise ConformanceError(
                f"Probabilities of {made.title} reach from {probabilities.min():.3g} to {probabilities.max():.3g}; "
                "they must be within 0 and 1."
            )


def check_reads_the_text(bench: Workbench) -> None:
    """Different texts get different probabilities."""
    for made in bench.assembled():
        spread = made.probabilities().std(dim=0).max()
        if spread < TOLERANCE:
            raise ConformanceError(
                f"{made.title} gives all texts the same probabilities. Use the batch's tokens, or what the backbone "
                "made of them."
            )


def check_evaluation_is_deterministic(bench: Workbench) -> None:
    """In evaluation mode the same texts get the same probabilities, and torch's random state stays as it is."""
    for made in bench.assembled():
        before = torch.random.get_rng_state()
        first, second = made.probabilities(), made.probabilities()
        if not torch.equal(first, second):
            raise ConformanceError(
                f"{made.title} answers differently each time, by up to {_distance(first, second):.1e}. Draw random "
                "numbers in training mode (self.training) only."
            )
        if not torch.equal(before, torch.random.get_rng_state()):
            raise ConformanceError(f"{made.title} draws random numbers at prediction. Do so in training mode only.")


def check_padding_changes_nothing(bench: Workbench) -> None:
    """A short text has the same probabilities alone and padded to the length of a long one, within 1e-5."""
    for made in bench.assembled():
        change = _distance(made.probabilities(SHORT), made.probabilities(SHORT, LONG)[:1])
        if change > TOLERANCE:
            raise ConformanceError(
                f"With {made.title} padding changes a probability by {change:.1e}. Leave out the tokens where the "
                "attention mask (BackboneOutput.mask) is False: fill their scores with -inf before a softmax or a "
                "maximum, their states with 0 before a sum."
            )


def check_batch_changes_nothing(bench: Workbench) -> None:
    """A text has the same probabilities alone, among others and in another order, within 1e-5."""
    for made in bench.assembled():
        n = len(TEXTS)
        alone = torch.cat([made.probabilities(row) for row in range(n)])
        turned = made.probabilities(*reversed(range(n))).flip(0)
        change = max(_distance(alone, made.probabilities()), _distance(alone, turned))
        if change > TOLERANCE:
            raise ConformanceError(
                f"With {made.title} a text's probabilities depend on the batch, by {change:.1e}. Compute every row by "
                "itself: no statistics over a batch, and results in the order of the rows."
            )


def check_device(bench: Workbench) -> str:
    """Everything that a network computes with moves with .to(device)."""
    package = bench.component.__module__.partition(".")[0]
    for made in bench.assembled():
        moved = copy.deepcopy(made.network).to("meta")
        if left := sorted(left_behind(moved, package)):
            raise ConformanceError(
                f"{', '.join(left)} of {made.title} stays where it is when the network moves to another device. "
                "Make it an nn.Parameter, or register_buffer it; a list of modules is an nn.ModuleList."
            )
    if not torch.cuda.is_available():
        return "no GPU here to run on: only looked whether all tensors are registered"
    for made in bench.assembled():
        network = copy.deepcopy(made.network).to("cuda")
        with torch.no_grad():
            there = network.head.probabilities(network.backbone, made.batch().to(torch.device("cuda"))).cpu()
        if _distance(there, made.probabilities()) > 1e-3:
            raise ConformanceError(f"{made.title} answers differently on a GPU.")
    return "run on a GPU too"


def _all(bench: Workbench) -> Iterator[tuple[int, Assembled]]:
    for n_labels in LABEL_COUNTS:
        for made in bench.assembled(n_labels):
            yield n_labels, made


@torch.no_grad()
def _outputs(made: Assembled, rows: tuple[int, ...], n_labels: int) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
    """Yield what a network computes for some rows: its name, the value, and the shape that it must have."""
    batch, backbone, head = made.batch(*rows), made.backbone, made.network.head
    yield "probabilities", head.probabilities(backbone, batch), (len(rows), n_labels)
    yield "losses", head.losses(backbone, batch), (len(rows),)
    if isinstance(head, LogitsHead):
        yield "logits", head.logits(backbone, batch), (len(rows), n_labels)
        output = backbone(batch)
        n_rows = batch.input_ids.shape[0]
        yield "pooled", output.pooled, (n_rows, backbone.hidden_size)
        yield "tokens", output.tokens, (*output.mask.shape, backbone.hidden_size)


def _distance(left: Tensor, right: Tensor) -> float:
    """Return the largest difference of two tensors; infinite where there is a NaN."""
    return float((left - right).abs().nan_to_num(nan=torch.inf).max())


def left_behind(network: nn.Module, package: str) -> set[str]:
    """Return the tensors that are no parameter or buffer, in modules whose class stands in a package."""
    found = set()
    for path, module in network.named_modules():
        if type(module).__module__.partition(".")[0] == package:
            found |= {f"{path}.{name}" for name, value in vars(module).items() if _holds_tensor(value)}
    return found


def _holds_tensor(value: Any) -> bool:
    """Say whether a plain attribute holds a tensor, or a module that is not registered, which is not on its way."""
    if isinstance(value, Tensor):
        return not value.is_meta
    if isinstance(value, nn.Module):
        return any(not tensor.is_meta for tensor in [*value.parameters(), *value.buffers()])
    if isinstance(value, dict):
        return any(_holds_tensor(item) for key, item in value.items() if not str(key).startswith("_"))
    return isinstance(value, list | tuple) and any(_holds_tensor(item) for item in value)
