"""How much memory a device has: the card's, or the machine's with the limit of a container counted in."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from mlclf.control_groups import ROOT, group_folders, read_text

GIB = 1 << 30


def total_memory(device: torch.device) -> int | None:
    """Return the memory of a device in bytes, whether it is free or in use; None where nobody knows it.

    What is free at the moment would make the same program behave in one way today and in another tomorrow.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    int or None

    Examples
    --------
    >>> total_memory(torch.device("cpu")) > 2**20
    True
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    # The memory of an Apple GPU is that of the machine.
    return machine_memory() if device.type in ("cpu", "mps") else None


def machine_memory(root: Path = ROOT) -> int:
    """Return the machine's memory in bytes, or the limit of the container where that is lower.

    Parameters
    ----------
    root : Path
        Where the system's own files are.

    Returns
    -------
    int
    """
    limits = [
        int(text)
        for folder in group_folders("memory", root)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := read_text(folder / name).strip()).isdecimal()
    ]
    return min([int(psutil.virtual_memory().total), *limits])
