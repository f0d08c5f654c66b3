"""The largest memory that this process has had."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil


def peak_memory() -> int:
    """Return this process's largest resident memory so far in bytes.

    Examples
    --------
    >>> peak_memory() > 2**20
    True
    """
    if sys.platform == "linux":
        # Not that of getrusage, which begins with the memory of the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
