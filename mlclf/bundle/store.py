"""Store: a model to a folder and back."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mlclf._version import __version__
from mlclf.assembly import build_network, resolve_parts
from mlclf.bundle.calibrator_file import calibrator_entry, read_calibrator, write_calibrator
from mlclf.bundle.card import CardFacts, card
from mlclf.bundle.manifest import (
    CARD_NAME,
    FORMAT_VERSION,
    MANIFEST_NAME,
    ComponentEntry,
    FormatEntry,
    Manifest,
    ReplayEntry,
    SourceEntry,
    check_target,
    file_entries,
    read_manifest,
)
from mlclf.bundle.replay_file import REPLAY_NAME, read_replay, write_replay
from mlclf.bundle.used import check_uses, components_of, uses_of
from mlclf.exceptions import BackboneLoadError, BundleDamagedError, OptionsError
from mlclf.files import replace_folder
from mlclf.interfaces import Backbone, BackboneSource, LabelStatistics, Strategy
from mlclf.labels import LabelSpace, YFormat
from mlclf.model import Model
from mlclf.network import MultiLabelNetwork
from mlclf.options import Options, TrainingOptions
from mlclf.parts import Parts
from mlclf.plugins import Kind, check_component_versions, provenance, require, resolve
from mlclf.replay import ReplayBuffer, ReplayOptions
from mlclf.thresholds import Thresholds
from mlclf.training.epochs import resolved_training
from mlclf.training.history import History

AllowedPlugins: TypeAlias = Collection[str] | Literal["none"] | None

# Weights that a strategy left alone, where they are saved too.
WEIGHTS_NAME = "backbone/weights.safetensors"

_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "safetensors", "numpy", "scikit-learn")


def save_model(
    model: Model,
    folder: str | os.PathLike[str],
    *,
    include_backbone: bool,
    include_replay: bool = False,
    facts: CardFacts | None = None,
) -> None:
    """Write a model into a folder, which is replaced only once everything is on disk.

    Parameters
    ----------
    model : Model
    folder : path
        Made, or replaced if it is a saved model already.
    include_backbone : bool
        Whether pretrained weights that the strategy left alone are written too.
    include_replay : bool
        Whether the rows kept for replay are written too: training texts.
    facts : CardFacts or None
        What the model card says beside what the model knows.

    Raises
    ------
    OptionsError
        If the folder exists and is something else than a saved model, or there are no rows to include.
    """
    target = Path(folder)
    check_target(target)
    if include_replay and model.replay is None:
        raise OptionsError(
            "include_replay=True: this model keeps no rows. Fit it with replay=0.2 or another share, or load it from a "
            "folder that was saved with them."
        )
    strategy_state = model.strategy.state(model.network.backbone)
    rest = other_weights(model.network.backbone, strategy_state)
    # Weights that no source has would be lost, and what full fine-tuning leaves alone (an unused table, a buffer) is
    # not worth a second download.
    sourceless = model.network.backbone.source().kind == "none"
    included = include_backbone or sourceless or _size(rest) <= _size(strategy_state)
    with replace_folder(target) as work:
        write_bundle(model, work, rest if included else None, model.replay if include_replay else None, facts)


def write_bundle(
    model: Model,
    folder: Path,
    rest: dict[str, Tensor] | None,
    replay: ReplayBuffer | None = None,
    facts: CardFacts | None = None,
) -> None:
    """Write a model into an empty folder.

    Parameters
    ----------
    model : Model
    folder : Path
        Is there, and empty.
    rest : dict of str to Tensor, or None
        The weights that the strategy left alone; None leaves them to their source.
    replay : ReplayBuffer or None
        Training rows to write too.
    facts : CardFacts or None
        For the model card.
    """
    (folder / "backbone").mkdir()
    model.network.backbone.save_files(folder / "backbone")
    write_tensors(folder / "strategy.safetensors", model.strategy.state(model.network.backbone))
    write_tensors(folder / "head.safetensors", _head_tensors(model.network))
    if rest is not None:
        write_tensors(folder / WEIGHTS_NAME, rest)
    if model.calibrator is not None:
        write_calibrator(folder, model.calibrator)
    if replay is not None:
        write_replay(folder / REPLAY_NAME, replay, model.labels)
    manifest = _manifest(model, folder, included=rest is not None)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    (folder / CARD_NAME).write_text(card(model, facts), encoding="utf-8")


def load_model(
    folder: str | os.PathLike[str],
    device: torch.device,
    *,
    allow_plugins: AllowedPlugins = None,
    allow_plugin_version_mismatch: bool = False,
    shared: Backbone | None = None,
) -> Model:
    """Read a model from a folder.

    No code is run that the folder names: components are found among what is installed, by registered name.

    Parameters
    ----------
    folder : path
    device : torch.device
    allow_plugins : collection of str, "none" or None
        Plugins that may be imported; None allows every installed one.
    allow_plugin_version_mismatch : bool
        Load with another major version of a plugin than the model was saved with.
    shared : Backbone or None
        Loaded and not adapted, with the pretrained weights of this model, whose tensors it is to share; None loads
        weights for this model alone.

    Raises
    ------
    BundleError
        If the folder is not a saved model, damaged, or of an unknown version.
    PluginError
        If a plugin is needed and cannot be used.
    BackboneLoadError
        If pretrained weights that the folder does not hold are absent or not the same.
    """
    source = Path(folder)
    manifest = read_manifest(source)
    require(
        manifest.plugins,
        manifest.names(),
        allow_plugins=allow_plugins,
        allow_version_mismatch=allow_plugin_version_mismatch,
    )
    check_component_versions(manifest.plugins, manifest.names(), allow_version_mismatch=allow_plugin_version_mismatch)
    check_uses(manifest)
    parts = _parts(manifest)
    statistics = LabelStatistics(
        names=tuple(str(name) for name in manifest.labels),
        positives=np.asarray(manifest.positives, dtype=np.int64),
        known=np.asarray(manifest.known, dtype=np.int64),
    )
    if shared is None:
        network, strategy = _network(source, manifest, parts, statistics, device)
    else:
        network, strategy = build_network(parts, statistics, backbone=shared.sibling(parts.backbone))
        strategy.finish(network.backbone)
        _put_trained(source, network, strategy)
    network.to(device).eval()
    labels = LabelSpace(tuple(manifest.labels))
    return Model(
        parts=parts,
        network=network,
        strategy=strategy,
        labels=labels,
        y_format=YFormat(**manifest.y_format.model_dump()),
        statistics=statistics,
        thresholds=Thresholds.from_json(manifest.thresholds),
        calibrator=None if manifest.calibrator is None else read_calibrator(source, manifest.calibrator),
        training=resolved_training(TrainingOptions(**manifest.training)),
        history=History.from_dict(manifest.history),
        device=device,
        metrics=manifest.metrics,
        replay=read_replay(source / REPLAY_NAME, labels) if REPLAY_NAME in manifest.files else None,
        replay_options=None if manifest.replay is None else ReplayOptions(**manifest.replay.model_dump()),
    )


def _network(
    folder: Path, manifest: Manifest, parts: Parts, statistics: LabelStatistics, device: torch.device
) -> tuple[MultiLabelNetwork, Strategy]:
    """Build the network and put the saved tensors into it."""
    included = manifest.backbone_weights == "included"
    network, strategy = build_network(
        parts,
        statistics,
        folder=folder / "backbone" if included else None,
        read_weights=not included,
        device=device,
    )
    if not included:
        check_source(manifest.source, network.backbone.source())
    strategy.finish(network.backbone)
    with torch.no_grad():
        if included:
            put_tensors(other_weights(network.backbone, strategy.state(network.backbone)), folder / WEIGHTS_NAME)
    _put_trained(folder, network, strategy)
    return network, strategy


@torch.no_grad()
def _put_trained(folder: Path, network: MultiLabelNetwork, strategy: Strategy) -> None:
    """Put what was trained into a network."""
    strategy.load_state(network.backbone, load_file(folder / "strategy.safetensors"))
    saved = load_file(folder / "head.safetensors")
    network.head.check_state({n.removeprefix("head."): t for n, t in saved.items() if n.startswith("head.")})
    put_tensors(_head_tensors(network), folder / "head.safetensors")


def check_source(saved: SourceEntry, found: BackboneSource) -> None:
    """Refuse pretrained weights other than those that a model was trained on.

    Parameters
    ----------
    saved : SourceEntry
        From the manifest.
    found : BackboneSource
        Where the weights that are there come from.

    Raises
    ------
    BackboneLoadError
        If checksum or revision differs.
    """
    # Where the manifest tells nothing of the weights, their name is all there is to go by.
    if BackboneSource(**saved.model_dump()).same_weights(found) is False:
        raise BackboneLoadError(
            f"The pretrained weights {found.name!r} are not those that this model was trained on: their checksum or "
            f"revision differs. Put back {saved.name!r} (revision {saved.revision}), or save the model with "
            "save(folder, include_backbone=True) where it was trained."
        )


def _head_tensors(network: MultiLabelNetwork) -> dict[str, Tensor]:
    """Return tensors of head and pooling, by name."""
    head = {f"head.{name}": tensor for name, tensor in network.head.state_dict().items()}
    pooling = {f"pooling.{name}": tensor for name, tensor in network.backbone.pooling.state_dict().items()}
    return {**head, **pooling}


def other_weights(backbone: Backbone, strategy_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's tensors that the strategy does not save, each once where layers share it."""
    model, vocabulary = backbone.model, backbone.vocabulary
    tensors = [*model.named_parameters(), *model.named_buffers()]
    persistent = set(model.state_dict())
    if vocabulary is not None:
        shared = {id(tensor) for _, tensor in tensors}
        own = [*vocabulary.named_parameters(), *vocabulary.named_buffers()]
        tensors += [(f"vocabulary.{name}", tensor) for name, tensor in own if id(tensor) not in shared]
        persistent |= {f"vocabulary.{name}" for name in vocabulary.state_dict()}
    return {name: t.detach() for name, t in tensors if name in persistent and name not in strategy_state}


def _size(tensors: dict[str, Tensor]) -> int:
    """Return the number of cells of some tensors."""
    return sum(tensor.numel() for tensor in tensors.values())


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors into a safetensors file."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def put_tensors(own: dict[str, Tensor], path: Path) -> None:
    """Copy saved tensors into existing ones of the same names and shapes."""
    saved = load_file(path)
    if set(own) != set(saved) or any(own[name].shape != tensor.shape for name, tensor in saved.items()):
        differing = sorted(set(own) ^ set(saved)) or [n for n, t in saved.items() if own[n].shape != t.shape]
        raise BundleDamagedError(f"{path}: tensors {differing[:3]} do not fit the model that the manifest describes.")
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def _parts(manifest: Manifest) -> Parts:
    """Resolve the components that the manifest names."""
    options = {kind: [_options(kind, entry) for entry in entries] for kind, entries in manifest.entries().items()}
    return resolve_parts(options["backbone"][0], options["strategy"], options["head"][0])


def _options(kind: Kind, entry: ComponentEntry) -> Options:
    """Return the options that an entry of the manifest holds."""
    try:
        return type(resolve(kind, entry.name)[2])(**entry.options)
    except OptionsError as error:
        raise BundleDamagedError(f"The manifest's options of {kind} {entry.name!r} are not valid: {error}") from error


def _manifest(model: Model, work: Path, *, included: bool) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        mlclf=__version__,
        components={
            kind: ComponentEntry(name=options.component, options=options.model_dump(mode="json"))
            for kind, options in model.parts.options.items()
        },
        uses={kind: list(names) for kind, names in uses_of(model).items()},
        plugins=list(provenance(components_of(model))),
        labels=list(model.labels.names),
        y_format=FormatEntry(**asdict(model.y_format)),
        positives=model.statistics.positives.tolist(),
        known=model.statistics.known.tolist(),
        thresholds=model.thresholds.to_json(),
        calibrator=None if model.calibrator is None else calibrator_entry(model.calibrator),
        training=model.training.replace(checkpoint_dir=None, resume_from=None).model_dump(mode="json"),
        replay=None if model.replay_options is None else ReplayEntry(**model.replay_options.model_dump()),
        history=model.history.to_dict(),
        metrics=model.metrics,
        backbone_weights="included" if included else "external",
        source=SourceEntry(**asdict(model.network.backbone.source())),
        versions=_versions(),
        files=file_entries(work),
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
