"""Store: tasks over one backbone to a folder and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from mlclf._version import __version__
from mlclf.bundle.manifest import ComponentEntry, SourceEntry, file_entries, read_manifest
from mlclf.bundle.store import (
    WEIGHTS_NAME,
    AllowedPlugins,
    check_source,
    load_model,
    other_weights,
    put_tensors,
    write_bundle,
    write_tensors,
)
from mlclf.exceptions import BundleDamagedError, OptionsError
from mlclf.files import replace_folder
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.model import Model
from mlclf.multitask.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    MultiTaskManifest,
    TaskEntry,
    check_target,
    read_multitask_manifest,
)
from mlclf.multitask.sharing import check_shares, prepared
from mlclf.plugins import check_component_versions, provenance, require, resolve
from mlclf.plugins.spec import Kind


def save_tasks(shared: Backbone, models: Mapping[str, Model], folder: Path, *, include_backbone: bool) -> None:
    """Write tasks into a folder, which is replaced only once everything is on disk.

    Parameters
    ----------
    shared : Backbone
        Loaded, and not adapted.
    models : mapping of str to Model
        By name of the task.
    folder : Path
        Made, or replaced if it is a saved folder of tasks already.
    include_backbone : bool
        Whether the shared weights are written too, once. They are in any case where they have no source.
    """
    check_target(folder)
    included = include_backbone or shared.source().kind == "none"
    entries = [TaskEntry(name=name, folder=f"tasks/{number}") for number, name in enumerate(models)]
    with replace_folder(folder) as work:
        for entry in entries:
            (work / entry.folder).mkdir(parents=True)
            write_bundle(models[entry.name], work / entry.folder, rest=None)
        if included:
            (work / "backbone").mkdir()
            shared.save_files(work / "backbone")
            write_tensors(work / WEIGHTS_NAME, other_weights(shared, {}))
        manifest = _manifest(shared, entries, work, included=included)
        (work / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def load_tasks(
    folder: Path, device: torch.device, *, allow_plugins: AllowedPlugins, allow_plugin_version_mismatch: bool
) -> tuple[Backbone, dict[str, Model]]:
    """Read the shared backbone and all tasks; see :func:`mlclf.bundle.store.load_model` for what is checked.

    Returns
    -------
    shared : Backbone
    models : dict of str to Model
        In the order in which they were added.
    """
    manifest = read_multitask_manifest(folder)
    require(
        manifest.plugins,
        _components(manifest.backbone.name),
        allow_plugins=allow_plugins,
        allow_version_mismatch=allow_plugin_version_mismatch,
    )
    check_component_versions(
        manifest.plugins, _components(manifest.backbone.name), allow_version_mismatch=allow_plugin_version_mismatch
    )
    shared = prepared(_load_backbone(folder, manifest), device)
    models = {}
    for task in manifest.tasks:
        _check_task(folder / task.folder, manifest)
        models[task.name] = load_model(
            folder / task.folder,
            device,
            allow_plugins=allow_plugins,
            allow_plugin_version_mismatch=allow_plugin_version_mismatch,
            shared=shared,
        )
        check_shares(models[task.name].parts)
    return shared, models


def _load_backbone(folder: Path, manifest: MultiTaskManifest) -> Backbone:
    """Load the shared weights, from the folder where it holds them."""
    _, backbone_class, defaults = resolve("backbone", manifest.backbone.name)
    try:
        backbone: Backbone = backbone_class(type(defaults)(**manifest.backbone.options))
    except OptionsError as error:
        raise BundleDamagedError(
            f"The manifest's options of backbone {manifest.backbone.name!r} are not valid: {error}"
        ) from error
    if manifest.backbone_weights == "external":
        backbone.load(LoadRequest())
        check_source(manifest.source, backbone.source())
        return backbone
    backbone.load(LoadRequest(weights=False), folder / "backbone")
    with torch.no_grad():
        put_tensors(other_weights(backbone, {}), folder / WEIGHTS_NAME)
    return backbone


def _check_task(folder: Path, manifest: MultiTaskManifest) -> None:
    """Refuse a task's folder that was saved with other weights than the shared ones."""
    task = read_manifest(folder)
    own = task.components["backbone"].name
    if task.backbone_weights == "included" or task.source != manifest.source or own != manifest.backbone.name:
        raise BundleDamagedError(
            f"The task in {str(folder)!r} was not saved with the backbone of {str(folder.parent.parent)!r}. "
            "Load it by itself, and add it with add_task(name, model)."
        )


def _components(backbone: str) -> dict[Kind, str]:
    """Return the one component that is named for all tasks."""
    return {"backbone": backbone}


def _manifest(shared: Backbone, entries: list[TaskEntry], work: Path, *, included: bool) -> MultiTaskManifest:
    name = shared.options.component
    return MultiTaskManifest(
        format_version=FORMAT_VERSION,
        mlclf=__version__,
        backbone=ComponentEntry(name=name, options=shared.options.model_dump(mode="json")),
        plugins=list(provenance(_components(name))),
        backbone_weights="included" if included else "external",
        source=SourceEntry(**asdict(shared.source())),
        tasks=entries,
        files=file_entries(work),
    )
