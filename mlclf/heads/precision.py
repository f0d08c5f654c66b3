"""Mixed precision, left where a head needs all digits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device_type: str) -> AbstractContextManager[None]:
    """Switch mixed precision off for the length of a block.

    A backbone gains by products of 16 bits; the logits of hundreds of labels and their loss need float32. Convert what
    the backbone gives with ``.float()`` inside the block. Where mixed precision is off already, nothing is entered, so
    that an exported graph is plain.

    Parameters
    ----------
    device_type : str
        ``tensor.device.type`` of what is computed with.

    Returns
    -------
    context manager

    Examples
    --------
    >>> import torch
    >>> from mlclf.heads import without_autocast
    >>> linear, pooled = torch.nn.Linear(4, 2), torch.ones(1, 4)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     rounded = linear(pooled)
    ...     with without_autocast(pooled.device.type):
    ...         exact = linear(pooled.float())
    >>> rounded.dtype, exact.dtype
    (torch.bfloat16, torch.float32)
    """
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
