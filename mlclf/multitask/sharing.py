"""Sharing: fitted models whose backbones are the very same tensors."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from mlclf.bundle.store import other_weights
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone, BackboneSource, LoadRequest
from mlclf.model import Model
from mlclf.network import MultiLabelNetwork
from mlclf.parts import Parts
from mlclf.training.device import seeded


def load_shared(parts: Parts, device: torch.device) -> Backbone:
    """Return a loaded backbone that is never adapted itself, on its device."""
    backbone = parts.backbone_class(parts.backbone)
    backbone.load(LoadRequest())
    return prepared(backbone, device)


def prepared(backbone: Backbone, device: torch.device) -> Backbone:
    """Return a loaded backbone frozen, on its device and in evaluation mode."""
    backbone.requires_grad_(False)
    return backbone.to(device).eval()


def check_shares(parts: Parts) -> None:
    """Refuse strategies and heads under which tasks cannot share a backbone; nothing is loaded.

    Raises
    ------
    IncompatibleComponentsError
    """
    strategy = parts.strategy_class(parts.strategy)
    if not strategy.capabilities.shares:
        raise IncompatibleComponentsError(
            f"Strategy {parts.names['strategy']!r} ({parts.strategy!r}) changes the weights that tasks share, or more "
            "than the outputs of single modules. Use strategy='head-only', or where the backbone has linear layers and "
            "attention, 'lora' with init='default' or 'adapter'."
        )
    if strategy.load_request() != LoadRequest():
        raise IncompatibleComponentsError(
            f"Strategy {parts.names['strategy']!r} loads the weights in a way of its own, and tasks share those of "
            "float32. Use strategy='head-only' for this task, or 'lora' where the backbone has linear layers."
        )
    if parts.head_class.capabilities.vocabulary:
        raise IncompatibleComponentsError(
            f"Head {parts.names['head']!r} needs the backbone's output layer over the vocabulary, which tasks do not "
            "share. Use head='bce' for this task."
        )


def shares_tensors(model: Model, shared: Backbone) -> bool:
    """Tell whether a model stands on the tensors of a shared backbone, and not on copies of them."""
    first = next(shared.model.parameters())
    return any(parameter is first for parameter in model.network.backbone.model.parameters())


def adopted(model: Model, shared: Backbone, device: torch.device) -> Model:
    """Return an equal model over the shared tensors; the given one stays as it is.

    Parameters
    ----------
    model : Model
        Fitted or loaded.
    shared : Backbone
        Loaded, and not adapted.
    device : torch.device
        Of the shared backbone.

    Raises
    ------
    IncompatibleComponentsError
        If the strategy does not share, or the model stands on other pretrained weights.
    """
    parts, old = model.parts, model.network
    check_shares(parts)
    backbone = shared.sibling(parts.backbone)
    strategy = parts.strategy_class(parts.strategy)
    with seeded(0):  # what is drawn here is replaced by the saved state
        strategy.check(backbone)
        strategy.adapt(backbone)
        strategy.finish(backbone)
    state = model.strategy.state(old.backbone)
    _check_same_weights(model, backbone, other_names=set(state))
    head = copy.deepcopy(old.head)
    backbone.encoder = old.backbone.encoder  # with the length of texts that its head left
    with torch.no_grad():
        backbone.to(device)
        strategy.load_state(backbone, state)
        backbone.pooling.load_state_dict(old.backbone.pooling.state_dict())
    network = MultiLabelNetwork(backbone, head).to(device).eval()
    return replace(model, network=network, strategy=strategy, device=device)


def _check_same_weights(model: Model, backbone: Backbone, other_names: set[str]) -> None:
    """Compare the pretrained weights of a model with shared ones, bit for bit."""
    names = dict.fromkeys(other_names, torch.empty(0))
    own, found = other_weights(backbone, names), other_weights(model.network.backbone, names)
    for name in {**own, **found}:
        same = name in own and name in found and own[name].shape == found[name].shape
        if not same or not torch.equal(own[name], found[name].to(own[name].device)):
            raise IncompatibleComponentsError(
                f"The model was trained on other pretrained weights: {_described(model.network.backbone.source())} "
                f"differs from {_described(backbone.source())} in {name!r}. Tasks of one MultiTaskClassifier share "
                "their weights; fit the task on this backbone with add_task(name, X, Y)."
            )


def _described(source: BackboneSource) -> str:
    revision = f" (revision {source.revision})" if source.revision else ""
    return f"{source.kind} {source.name!r}{revision}"
