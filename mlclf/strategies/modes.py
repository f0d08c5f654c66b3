"""Training mode for parts of a model: dropout where something learns, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def train_only(model: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Put a model into evaluation mode and some of its modules into training mode.

    Modules that recompute activations (``gradient_checkpointing``) do so in training mode only. They are marked as
    training themselves, but not what they consist of, so that no dropout comes back with it.

    Parameters
    ----------
    model : nn.Module
        The whole model.
    parts : iterable of nn.Module
        Modules of it that are trained, with all they consist of.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout())
    >>> train_only(model, [model[1]])
    >>> [layer.training for layer in model]
    [False, True]
    """
    model.eval()
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
    for part in parts:
        part.train()
