"""What :func:`mlclf.plugins.doctor.diagnose` runs in a process of its own: load one plugin, write what happened.

Usage: ``python -m mlclf.plugins.probe ID declaration|classes SECONDS REPORT``
"""

from __future__ import annotations

import faulthandler
import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlclf.exceptions import MlclfError
from mlclf.plugins.doctor import Depth, Diagnosis
from mlclf.plugins.records import PluginRecord
from mlclf.plugins.registry import get_manager
from mlclf.plugins.targets import load_classes


def main(plugin_id: str, depth: Depth, seconds: str, report: str) -> None:
    """Load a plugin and write a :class:`Diagnosis` as JSON into the file ``report``."""
    faulthandler.enable()
    # A plugin that hangs is ended from outside; half-way there, its stack is written to the output.
    faulthandler.dump_traceback_later(float(seconds) / 2)
    diagnosis = examine(plugin_id, depth)
    faulthandler.cancel_dump_traceback_later()
    Path(report).write_text(json.dumps(asdict(diagnosis)), encoding="utf-8")


def examine(plugin_id: str, depth: Depth) -> Diagnosis:
    """Load a plugin in this process and return what was found."""
    manager = get_manager()
    try:
        record = manager.load(plugin_id)
    except MlclfError:
        record = manager.record(plugin_id)
        return Diagnosis(id=plugin_id, status=record.status, message=record.message, details=record.traceback)
    found = Diagnosis(id=plugin_id, status="ok", api=record.api, components=_described(record))
    if depth == "classes":
        return _with_classes(record, found)
    return found


def _described(record: PluginRecord) -> tuple[dict[str, Any], ...]:
    return tuple({"kind": kind, **asdict(spec)} for kind, specs in record.components.items() for spec in specs)


def _with_classes(record: PluginRecord, found: Diagnosis) -> Diagnosis:
    """Return the diagnosis after an attempt to import all classes."""
    for kind, specs in record.components.items():
        for spec in specs:
            try:
                load_classes(kind, spec, record.title)
            except MlclfError as error:
                return Diagnosis(
                    id=record.id,
                    status="failed",
                    message=str(error),
                    api=found.api,
                    components=found.components,
                    details=traceback.format_exc(),
                )
    return found


if __name__ == "__main__":
    plugin, wanted, limit, target = sys.argv[1:]
    main(plugin, "classes" if wanted == "classes" else "declaration", limit, target)
