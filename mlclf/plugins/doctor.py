"""Examining a plugin in a process of its own, so that one that crashes, exits or hangs harms nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlclf.plugins.records import PROBLEMS, PluginRecord

Depth = Literal["declaration", "classes"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What an examination found.

    Parameters
    ----------
    id : str
        Plugin id.
    status : str
        A plugin status (see :class:`mlclf.plugins.PluginRecord`), "crashed" where the process ended early, or
        "timeout".
    message : str
        What is wrong, as a sentence; empty where nothing is.
    api : tuple of int or None
        The plugin API it was written for; None where it could not be loaded.
    components : tuple of dict
        Its components: the values of each ComponentSpec, and its ``kind``.
    details : str
        Traceback, and what the plugin wrote to its output.
    """

    id: str
    status: str
    message: str = ""
    api: tuple[int, int] | None = None
    components: tuple[dict[str, Any], ...] = ()
    details: str = ""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong; a plugin that is switched off is not examined and counts as healthy."""
        return self.status in ("ok", "disabled")


def diagnose(record: PluginRecord, *, depth: Depth = "classes", timeout: float = 60.0) -> Diagnosis:
    """Load a plugin in a new process and return what happened.

    Parameters
    ----------
    record : PluginRecord
        The plugin, as known from metadata. One that is switched off or that metadata rules out is not loaded.
    depth : {"declaration", "classes"}
        Load the plugin's declaration only, or the classes of its components too, which takes seconds because it
        imports torch.
    timeout : float
        Seconds after which the process is ended.

    Returns
    -------
    Diagnosis
        What was found.

    Examples
    --------
    >>> from mlclf.plugins import PluginRecord
    >>> diagnose(PluginRecord(id="acme", package="mlclf-acme", version="1.0", status="disabled")).healthy
    True
    """
    if record.status == "disabled" or record.status in PROBLEMS:
        return Diagnosis(id=record.id, status=record.status, message=record.message, details=record.traceback)
    with tempfile.TemporaryDirectory() as folder:
        return _examine(record.id, depth, timeout, Path(folder))


def _examine(plugin_id: str, depth: Depth, timeout: float, folder: Path) -> Diagnosis:
    """Run :mod:`mlclf.plugins.probe` and return what it reports, or how it ended."""
    report, output = folder / "report.json", folder / "output.txt"
    command = [sys.executable, "-P", "-m", "mlclf.plugins.probe", plugin_id, depth, str(timeout), str(report)]
    # Output goes to a file: a pipe would stay open, and be waited for, in processes that the plugin left behind.
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=_environment())
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            message = f"did not finish loading within {timeout:g} s."
            return Diagnosis(id=plugin_id, status="timeout", message=message, details=_tail(output))
    if not report.exists():
        message = f"ended the process while it was loaded (exit code {code})."
        return Diagnosis(id=plugin_id, status="crashed", message=message, details=_tail(output))
    return _read(report, output)


def _environment() -> dict[str, str]:
    """Return the environment in which the new process imports from the same places as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def _tail(path: Path, limit: int = 8000) -> str:
    return path.read_bytes()[-limit:].decode("utf-8", errors="replace")


def _read(report: Path, output: Path) -> Diagnosis:
    found = json.loads(report.read_text(encoding="utf-8"))
    details = "\n".join(part for part in (found["details"], _tail(output)) if part)
    api = tuple(found["api"]) if found["api"] else None
    return Diagnosis(**found | {"api": api, "components": tuple(found["components"]), "details": details})
