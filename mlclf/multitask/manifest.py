"""The folder of many tasks: what it says about itself, checked field by field when it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlclf.bundle.manifest import ComponentEntry, FileEntry, SourceEntry, check_listed, read_document
from mlclf.files import check_replaceable

FORMAT_VERSION = 1
MANIFEST_NAME = "multitask.json"

# Folders of tasks are numbered, so that the name of a task is text and never a path.
_FOLDER = r"tasks/\d{1,4}"
_FILE_NAME = re.compile(rf"({_FOLDER}/)?(backbone/)?[a-z_]+\.(safetensors|json|txt|model)")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskEntry(_Part):
    """A task by name, and the folder of its model."""

    name: str = Field(min_length=1, max_length=100)
    folder: str = Field(pattern=f"^{_FOLDER}$")


class MultiTaskManifest(_Part):
    """Content of ``multitask.json``.

    Parameters
    ----------
    format_version : int
        Version of this layout.
    mlclf : str
        Version that wrote the folder.
    backbone : ComponentEntry
        The backbone that all tasks share.
    plugins : list of dict
        Plugin that it comes from; each task's own manifest names the others.
    backbone_weights : {"included", "external"}
        Whether the folder holds the shared weights, or they come from ``source``.
    source : SourceEntry
    tasks : list of TaskEntry
        In the order in which they were added.
    files : dict of str to FileEntry
        Every other file of the folder, those of the tasks among them.
    """

    format_version: int
    mlclf: str
    backbone: ComponentEntry
    plugins: list[Mapping[str, Any]]
    backbone_weights: Literal["included", "external"]
    source: SourceEntry
    tasks: list[TaskEntry] = Field(min_length=1)
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _each_task_once(self) -> MultiTaskManifest:
        for field in ("name", "folder"):
            values = [getattr(task, field) for task in self.tasks]
            if len(set(values)) < len(values):
                raise ValueError(f"two tasks have the same {field}")
        return self


def read_multitask_manifest(folder: Path) -> MultiTaskManifest:
    """Read and check the manifest of a folder of tasks, and the checksums of all its files.

    Raises
    ------
    BundleError, BundleVersionError, BundleDamagedError
        As :func:`mlclf.bundle.manifest.read_manifest` does.
    """
    manifest = read_document(folder / MANIFEST_NAME, MultiTaskManifest, FORMAT_VERSION)
    check_listed(folder, manifest.files, allowed=_FILE_NAME, beside=MANIFEST_NAME)
    return manifest


def check_target(folder: Path) -> None:
    """Refuse to replace what is not a saved folder of tasks.

    Raises
    ------
    OptionsError
        If the folder is there, not empty, and something else.
    """
    check_replaceable(folder, ours=(folder / MANIFEST_NAME).is_file(), what="a saved MultiTaskClassifier")
