"""Control groups: the folders in which Linux keeps the limits of a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def group_folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, and of those around them.

    Parameters
    ----------
    controller : str
        What is limited: ``"cpu"`` or ``"memory"``. Version 2 has one tree for all of them, version 1 a tree for each.
    root : Path
        Where the system's own files are.

    Yields
    ------
    Path
        Folders that need not exist; none outside Linux.

    Examples
    --------
    >>> all(isinstance(folder, Path) for folder in group_folders("memory"))
    True
    """
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _upwards(root / "sys/fs/cgroup", group)
        elif controller in controllers.split(","):
            yield from _upwards(root / "sys/fs/cgroup" / controller, group)


def read_text(path: Path) -> str:
    """Return the content of a small file, nothing where it is absent or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _upwards(base: Path, group: str) -> Iterator[Path]:
    """Yield the folders of a group and of the groups around it; within a container its own path may not exist."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:count])
