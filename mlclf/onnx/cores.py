"""How many processor cores this process may use: affinity and the limits of containers counted in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
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
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", group):
                yield from _limit(_read(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for folder in _upwards(root / "sys/fs/cgroup/cpu", group):
                yield from _limit([_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])


def _limit(words: list[str]) -> list[float]:
    """Return time a period by the period; nothing where there is no limit ("max", -1, or no such file)."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def _upwards(base: Path, group: str) -> Iterator[Path]:
    """Yield the folders of a group and of the groups around it; within a container its own path may not exist."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:count])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
