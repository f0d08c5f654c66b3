"""How many processor cores this process may use: affinity and the limits of containers counted in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mlclf.control_groups import ROOT, group_folders, read_text


def usable_cores(root: Path = ROOT) -> int:
    """Return how many threads can run at once.

    onnxruntime counts the cores of the host. In a container that may use two of 64, its 64 threads then share two
    cores and are stopped together whenever their time is used up.

    Parameters
    ----------
    root : Path
        Where the system's own files are.

    Returns
    -------
    int
        At least 1; at most the cores that the process may run on, and the whole cores of its container's limit.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_limits(root)])))


def _limits(root: Path) -> Iterator[float]:
    """Yield the limits, in cores, of the control groups that this process is in, and of those around them."""
    for folder in group_folders("cpu", root):
        yield from _limit(read_text(folder / "cpu.max").split())
        yield from _limit([read_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])


def _limit(words: list[str]) -> list[float]:
    """Return time a period by the period; nothing where there is no limit ("max", -1, or no such file)."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]
