"""Adapters of saved models as parts of new ones: stacked upon, or fused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.interfaces import Backbone
from mlclf.strategies.adapter import AdapterOptions
from mlclf.strategies.adapter_composed import ComposedAdapter
from mlclf.strategies.adapter_layers import adapted_layers
from mlclf.strategies.adapter_start import AdapterStart
from mlclf.strategies.saved_sources import SavedSource, as_option, read_source

# What must be the same in all sources, as the frozen adapters stand where the new ones do.
_COMMON = ("kind", "activation", "scale", "layers", "sites")


def stack_adapters(folders: Sequence[str | Path], *, reduction: int = 16) -> AdapterOptions:
    """Return options of ``adapter`` that put new adapters upon those of saved models, which stay frozen.

    Parameters
    ----------
    folders : sequence of path
        Saved models with strategy ``adapter`` over the same pretrained weights, from the lowest up; their adapters
        stand at the same places.
    reduction : int
        Hidden size of the backbone divided by the width of the new adapters.

    Returns
    -------
    AdapterOptions
        For ``MultiLabelClassifier(strategy=...)``.

    Raises
    ------
    BundleError
        If a folder is no saved model, or damaged.
    IncompatibleComponentsError
        If the sources do not fit together.
    OptionsError
        If there is no source.

    References
    ----------
    Pfeiffer et al. (2020), "MAD-X: An Adapter-Based Framework for Multi-Task Cross-Lingual Transfer", arXiv:2005.00052.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf import AdapterOptions, BertOptions, MultiLabelClassifier, TrainingOptions, stack_adapters
    >>> from mlclf.testing import tiny_encoder
    >>> texts, labels = ["good food", "bad food", "good staff", "bad staff"] * 8, [["a"], ["b"], ["a", "c"], ["c"]] * 8
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertOptions(model=str(tiny_encoder("bert", folder + "/bert")))
    ...     training = TrainingOptions(epochs=1)
    ...     clf = MultiLabelClassifier(backbone, "adapter", training=training, random_state=0, verbose=0)
    ...     clf.fit(texts, labels).save(folder + "/first")
    ...     stacked = stack_adapters([folder + "/first"])
    ...     _ = clf.set_params(strategy=stacked).fit(texts, labels)
    >>> stacked.start.method
    'stack'
    """
    return _options(folders, "stack").replace(reduction=reduction).validated()


def fuse_adapters(folders: Sequence[str | Path], *, regularisation: float = 0.01) -> AdapterOptions:
    """Return options of ``adapter`` that learn, for each token, how much of each saved model's adapters to take.

    Parameters
    ----------
    folders : sequence of path
        Saved models with strategy ``adapter`` over the same pretrained weights; their adapters stand at the same places
        and stay frozen.
    regularisation : float
        Weight of the squared distance of the value matrices from the identity, added to the loss.

    Returns
    -------
    AdapterOptions
        For ``MultiLabelClassifier(strategy=...)``.

    Raises
    ------
    BundleError, IncompatibleComponentsError, OptionsError
        As :func:`stack_adapters` does.

    References
    ----------
    Pfeiffer et al. (2021), "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", arXiv:2005.00247.

    Examples
    --------
    >>> fuse_adapters([])
    Traceback (most recent call last):
    mlclf.exceptions.OptionsError: Composing adapters needs at least one folder of a saved model, got none.
    """
    options = _options(folders, "fusion")
    assert options.start is not None
    return options.replace(start=options.start.replace(regularisation=regularisation).validated())


def _options(folders: Sequence[str | Path], method: Literal["stack", "fusion"]) -> AdapterOptions:
    """Return options that place adapters where the sources have theirs."""
    sources = [read_source(folder, "adapter") for folder in folders]
    if not sources:
        raise OptionsError("Composing adapters needs at least one folder of a saved model, got none.")
    _check(sources)
    common = {name: as_option(sources[0].options.get(name)) for name in _COMMON}
    start = AdapterStart(sources=tuple(str(Path(folder)) for folder in folders), method=method)
    return AdapterOptions(**common, start=start)


@torch.no_grad()
def put_sources(backbone: Backbone, start: AdapterStart) -> None:
    """Read the adapters of saved models into an adapted backbone.

    Raises
    ------
    BundleError, IncompatibleComponentsError
        If a source cannot be read or does not fit.
    """
    sources = [read_source(folder, "adapter") for folder in start.sources]
    _check(sources)
    for source in sources:
        source.check_backbone(backbone)
    read = [source.tensors() for source in sources]
    layers = composed(backbone)
    for name, adapter in layers.items():
        own = [_inside(tensors, f"{name}.adapter.") for tensors in read]
        if not all(own) or any(len(tensors) != 4 * len(layers) for tensors in read):
            raise IncompatibleComponentsError(
                f"The adapters of {list(start.sources)} stand at other places than those of this fit. Take the options "
                "from stack_adapters or fuse_adapters as they are."
            )
        adapter.take_sources(own)


def saved_sources(backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors of the frozen adapters, by name in the model."""
    return {
        f"{name}.adapter.sources.{inner}": tensor.detach()
        for name, adapter in composed(backbone).items()
        for inner, tensor in adapter.sources.named_parameters()
    }


def load_sources(backbone: Backbone, state: dict[str, Tensor]) -> None:
    """Make the frozen adapters out of saved tensors."""
    for name, adapter in composed(backbone).items():
        adapter.take_saved(_inside(state, f"{name}.adapter."))


def composed(backbone: Backbone) -> dict[str, ComposedAdapter]:
    """Return the composed adapters by the name of their layer."""
    layers = adapted_layers(backbone.model).items()
    return {name: layer.adapter for name, layer in layers if isinstance(layer.adapter, ComposedAdapter)}


def _inside(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check(sources: list[SavedSource]) -> None:
    """Refuse sources that cannot stand beside each other."""
    first = sources[0]
    for source in sources:
        if source.options.get("start") is not None or source.options.get("kind") == "parallel":
            raise IncompatibleComponentsError(
                f"The adapters of {str(source.folder)!r} are parallel ones or composed themselves, which cannot be "
                "composed. Use models with kind='pfeiffer' or 'houlsby'."
            )
        if any(source.options.get(name) != first.options.get(name) for name in _COMMON):
            raise IncompatibleComponentsError(
                f"The models in {str(first.folder)!r} and {str(source.folder)!r} differ in {', '.join(_COMMON)} of "
                "their adapters. Use models with the same."
            )
