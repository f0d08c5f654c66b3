"""Merging the low-rank updates of saved models into the start of a new fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.interfaces import Backbone
from mlclf.strategies.lora import LoraOptions
from mlclf.strategies.lora_layers import adapted
from mlclf.strategies.lora_peft import LoraConfig, LoraModel
from mlclf.strategies.lora_start import LoraStart, MergeMethod
from mlclf.strategies.saved_sources import SavedSource, as_option, read_source

_TARGET = "layer"


def merge_loras(
    folders: Sequence[str | Path],
    weights: Sequence[float] | None = None,
    method: MergeMethod = "svd",
    *,
    r: int | None = None,
    density: float | None = None,
) -> LoraOptions:
    """Return options of ``lora`` that start a fit from the merged updates of saved models.

    Parameters
    ----------
    folders : sequence of path
        Saved models with strategy ``lora``, without DoRA, PiSSA and OLoRA, over the same pretrained weights and with
        the same ``targets`` and ``layers``.
    weights : sequence of float or None
        Weight of each; None takes the mean.
    method : str
        ``"cat"`` is the weighted sum exactly, at the sum of the ranks; ``"svd"`` its best approximation of rank ``r``.
        ``"linear"`` sums the two matrices each by itself, times the roots of the weights: a rough approximation, and
        no mean, as two equal updates at 0.5 each come out doubled. ``"ties"``,
        ``"dare_linear"``, ``"dare_ties"`` and ``"magnitude_prune"`` leave numbers out first; with ``"_svd"`` of the
        product.
    r : int or None
        Rank, for the methods with ``svd``; None takes the largest of the sources.
    density : float or None
        Share of the numbers that the methods which leave some out keep.

    Returns
    -------
    LoraOptions
        For ``MultiLabelClassifier(strategy=...)``.

    Raises
    ------
    BundleError
        If a folder is no saved model, or damaged.
    IncompatibleComponentsError
        If the sources do not fit together.
    OptionsError
        If there is no source, or an option breaks its rule.

    References
    ----------
    peft's ``add_weighted_adapter`` does the merging. Yadav et al. (2023), "TIES-Merging", arXiv:2306.01708;
    Yu et al. (2024), "Language Models are Super Mario" (DARE), arXiv:2311.03099.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions, merge_loras
    >>> from mlclf.testing import tiny_encoder
    >>> texts, labels = ["good food", "bad food", "good staff", "bad staff"] * 8, [["a"], ["b"], ["a", "c"], ["c"]] * 8
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertOptions(model=str(tiny_encoder("bert", folder + "/bert")))
    ...     clf = MultiLabelClassifier(backbone, training=TrainingOptions(epochs=1), random_state=0, verbose=0)
    ...     clf.fit(texts, labels).save(folder + "/first")
    ...     start = merge_loras([folder + "/first", folder + "/first"], method="cat")
    ...     _ = clf.set_params(strategy=start).fit(texts, labels)
    >>> start.r
    32
    """
    sources = [read_source(folder, "lora") for folder in folders]
    if not sources:
        raise OptionsError("merge_loras needs at least one folder, got none.")
    first = _checked(sources)
    ranks = [int(source.options["r"]) for source in sources]
    if method.endswith("svd"):
        rank = max(ranks) if r is None else r
    else:
        rank = sum(ranks) if method == "cat" else ranks[0]
        if (method != "cat" and len(set(ranks)) > 1) or r not in (None, rank):
            raise OptionsError(
                f"merge_loras(method={method!r}) cannot make rank {r or 'one'} out of ranks {ranks}. "
                "Use method='svd', which gives any rank, or 'cat', which gives their sum."
            )
    return LoraOptions(
        r=rank,
        targets=as_option(first.options["targets"]),
        layers=as_option(first.options["layers"]),
        start=LoraStart(
            sources=tuple(str(Path(folder)) for folder in folders),
            weights=tuple(weights) if weights is not None else (1 / len(sources),) * len(sources),
            method=method,
            density=density,
        ),
    )


@torch.no_grad()
def start_from_sources(backbone: Backbone, start: LoraStart) -> None:
    """Put the merged updates of saved models into an adapted backbone.

    Parameters
    ----------
    backbone : Backbone
        With updates of strategy ``lora``.
    start : LoraStart

    Raises
    ------
    BundleError, IncompatibleComponentsError
        If a source cannot be read or does not fit.
    """
    sources = [read_source(folder, "lora") for folder in start.sources]
    _checked(sources)
    for source in sources:
        source.check_backbone(backbone)
    tensors = [source.tensors() for source in sources]
    layers = adapted(backbone.model)
    for name, layer in layers.items():
        (adapter,) = layer.active_adapters
        down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        names = [f"{name}.lora_{part}.{adapter}.weight" for part in "AB"]
        absent = [s.folder for s, found in zip(sources, tensors, strict=True) if not set(names) <= set(found)]
        if absent or any(len(found) != 2 * len(layers) for found in tensors):
            raise IncompatibleComponentsError(
                f"The updates of {str((absent or [source.folder for source in sources])[0])!r} are those of other "
                "layers than this fit has. Take the options from merge_loras as they are."
            )
        pairs = [(found[names[0]], found[names[1]]) for found in tensors]
        merged_down, merged_up = _merged(pairs, [_scaling(source) for source in sources], start, rank=len(down))
        if merged_down.shape != down.shape:
            raise IncompatibleComponentsError(
                f"Merging by {start.method!r} gives rank {len(merged_down)}, and LoraOptions(r={len(down)}) needs "
                "another. Take the options from merge_loras as they are."
            )
        down.copy_(merged_down)
        up.copy_(merged_up / layer.scaling[adapter])


def _merged(
    pairs: list[tuple[Tensor, Tensor]], scalings: list[float], start: LoraStart, rank: int
) -> tuple[Tensor, Tensor]:
    """Return the merged matrices of one layer, whose product is the merged update."""
    n_in, n_out = pairs[0][0].shape[1], pairs[0][1].shape[0]
    scratch = nn.ModuleDict({_TARGET: nn.Linear(n_in, n_out, bias=False)})
    names = [f"source{number}" for number in range(len(pairs))]
    configs = [
        LoraConfig(r=len(down), lora_alpha=scaling * len(down), target_modules=[_TARGET])
        for (down, _), scaling in zip(pairs, scalings, strict=True)
    ]
    tuner = LoraModel(scratch, configs[0], names[0])
    for name, config in zip(names[1:], configs[1:], strict=True):
        tuner.peft_config[name] = config
        tuner.inject_adapter(scratch, name)
    layer: Any = scratch[_TARGET]
    for name, (down, up) in zip(names, pairs, strict=True):
        layer.lora_A[name].weight.copy_(down)
        layer.lora_B[name].weight.copy_(up)
    tuner.add_weighted_adapter(
        names,
        list(start.weights),
        "merged",
        combination_type=start.method,
        svd_rank=rank if start.method.endswith("svd") else None,
        svd_full_matrices=False,
        density=start.density,
    )
    return layer.lora_A["merged"].weight, layer.lora_B["merged"].weight * layer.scaling["merged"]


def _checked(sources: list[SavedSource]) -> SavedSource:
    """Return the first source if all of them can be merged with it."""
    first = sources[0]
    for source in sources:
        if source.options.get("use_dora") or source.options.get("init") in ("pissa", "olora"):
            raise IncompatibleComponentsError(
                f"The model in {str(source.folder)!r} was trained with DoRA, PiSSA or OLoRA, whose updates are more "
                "than a product of two matrices beside the loaded weights and cannot be merged. Use models without."
            )
        if any(source.options.get(name) != first.options.get(name) for name in ("targets", "layers")):
            raise IncompatibleComponentsError(
                f"The models in {str(first.folder)!r} and {str(source.folder)!r} differ in targets or layers of their "
                "updates. Use models with the same."
            )
        if source.weights != first.weights and source.weights.get("sha256") != first.weights.get("sha256"):
            raise IncompatibleComponentsError(
                f"The models in {str(first.folder)!r} and {str(source.folder)!r} were trained on different pretrained "
                "weights. Use models over the same backbone."
            )
    return first


def _scaling(source: SavedSource) -> float:
    """Return the factor of a source's updates."""
    r = int(source.options["r"])
    alpha = source.options.get("alpha") or 2 * r
    return float(alpha / (math.sqrt(r) if source.options.get("use_rslora") else r))
