"""Optimizers: parameter groups, gradient clipping and the learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.interfaces import Backbone, Strategy
from mlclf.network import MultiLabelNetwork
from mlclf.options import TrainingOptions

# Below this many cells a dense update of an embedding table is cheaper than gathering its touched rows.
_SPARSE_TABLE = 1 << 20


@dataclass
class Optimizers:
    """The optimizers of one run, stepped together.

    Large embedding tables on a processor get sparse gradients and ``SparseAdam``, which touches only the rows of
    tokens that occur: a batch of 600 tokens uses 2 % of a 30,000-word table, and writing the other 98 % took a fifth
    of a step.

    Parameters
    ----------
    all : list of torch.optim.Optimizer
        Each group has its peak rate under ``"peak_lr"``.
    sparse_tables : list of nn.Embedding
        Tables switched to sparse gradients; :meth:`close` switches them back.
    """

    all: list[torch.optim.Optimizer]
    sparse_tables: list[nn.Embedding]

    def set_learning_rate(self, factor: float) -> None:
        """Set every group's rate to its peak times a factor."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor

    def step(self) -> None:
        """Update all parameters."""
        for optimizer in self.all:
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters in the order of the groups."""
        return [p for optimizer in self.all for group in optimizer.param_groups for p in group["params"]]

    def close(self) -> None:
        """Give embedding tables back their dense gradients."""
        for table in self.sparse_tables:
            table.sparse = False


def make_optimizers(
    network: MultiLabelNetwork, strategy: Strategy, options: TrainingOptions, *, sparse_gradients: bool
) -> Optimizers:
    """Make AdamW over what learns, with the strategy's learning rates and a group for head and pooling.

    Parameters
    ----------
    network : MultiLabelNetwork
        Adapted and bound.
    strategy : Strategy
        Gives the groups of the backbone.
    options : TrainingOptions
        Rates that replace the strategy's, and the weight decay.
    sparse_gradients : bool
        Whether large embedding tables may have sparse gradients (one process, no gradient scaler).

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled Weight Decay Regularization", arXiv:1711.05101.
    """
    rates = learning_rates(strategy, options, network.backbone)
    groups = strategy.parameter_groups(network.backbone, rates["backbone"], options.weight_decay)
    for decay, wanted in ((options.weight_decay, True), (0.0, False)):
        head = [p for p in network.head_parameters() if p.requires_grad and (p.ndim >= 2) is wanted]
        if head:
            groups.append({"params": head, "lr": rates["head"], "weight_decay": decay})
    tables = _large_tables(network.backbone) if sparse_gradients else []
    sparse, dense = _split_tables(groups, {id(table.weight) for table in tables})
    for table in tables:
        table.sparse = True
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(dense, fused=_can_fuse(dense))]
    if sparse:
        optimizers.append(torch.optim.SparseAdam(sparse))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return Optimizers(optimizers, tables)


def learning_rates(strategy: Strategy, options: TrainingOptions, backbone: Backbone) -> dict[str, float]:
    """Return the peak rates of ``backbone`` and ``head``.

    The training options' come first, then those of the strategy's options, then the strategy's own, which the backbone
    scales.
    """
    scale = backbone.learning_rate_scale
    own = {"backbone": strategy.learning_rates.backbone * scale, "head": strategy.learning_rates.head}
    names = {"backbone": "learning_rate", "head": "head_learning_rate"}
    return {
        part: getattr(options, name) or getattr(strategy.options, name, None) or own[part]
        for part, name in names.items()
    }


def _large_tables(model: nn.Module) -> list[nn.Embedding]:
    """Return trainable embedding tables that are large and not tied to another layer, such as an output layer."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and module.weight.requires_grad
        and module.weight.numel() >= _SPARSE_TABLE
        and uses[id(module.weight)] == 1
        and module.max_norm is None
    ]


def _split_tables(groups: list[dict[str, Any]], tables: set[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split groups into those of sparse tables and the rest."""
    sparse, dense = [], []
    for group in groups:
        inside = [p for p in group["params"] if id(p) in tables]
        outside = [p for p in group["params"] if id(p) not in tables]
        if inside:
            sparse.append({"params": inside, "lr": group["lr"]})
        if outside:
            dense.append({**group, "params": outside})
    return sparse, dense


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Fused AdamW exists for float parameters on processors and CUDA."""
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for g in groups for p in g["params"])


def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> None:
    """Scale all gradients, dense and sparse, down to a global L2 norm.

    ``torch.nn.utils.clip_grad_norm_`` refuses sparse gradients; this is the same rule for both kinds.

    Parameters
    ----------
    parameters : list of nn.Parameter
        Those without gradient are skipped.
    max_norm : float
        Largest norm allowed.
    """
    values = [_dense_values(p) for p in parameters if p.grad is not None]
    if not values:
        return
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    # Asking is free on a processor; a GPU would have to be waited for.
    if factor.device.type != "cpu" or factor < 1.0:
        torch._foreach_mul_(values, factor)


def _dense_values(parameter: nn.Parameter) -> Tensor:
    """Return the gradient's numbers; a sparse gradient is first summed over repeated rows."""
    gradient = parameter.grad
    assert gradient is not None
    if not gradient.is_sparse:
        return gradient
    parameter.grad = gradient.coalesce()
    return parameter.grad.values()


def schedule_factor(step: int, total_steps: int, options: TrainingOptions) -> float:
    """Return the share of the peak learning rate at an optimizer step.

    Parameters
    ----------
    step : int
        Steps done so far.
    total_steps : int
        Steps of the whole run.
    options : TrainingOptions
        ``warmup_ratio`` and ``schedule``.

    Returns
    -------
    float
        Between 0 and 1.

    Examples
    --------
    >>> from mlclf.options import TrainingOptions
    >>> [round(schedule_factor(step, 10, TrainingOptions(warmup_ratio=0.2)), 2) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warmup = math.ceil(total_steps * options.warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if options.schedule == "linear":
        return 1.0 - progress
    if options.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
