"""A model whose layers are spread over several devices by accelerate."""

from __future__ import annotations

import importlib.util
import os

from torch import nn

from mlclf.exceptions import BackboneLoadError, MissingExtraError


def check_can_spread() -> None:
    """Refuse a device map where it cannot work.

    Raises
    ------
    MissingExtraError
        If accelerate is not installed.
    BackboneLoadError
        If several processes were launched, each of which has a device of its own.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise MissingExtraError(
            "device_map='auto' needs 'accelerate', which is not installed. Install it: pip install 'mlclf[train]'"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BackboneLoadError(
            "device_map='auto' spreads one model over all GPUs, and several processes were launched, each with a GPU "
            "of its own. Start one process, or use device_map=None."
        )


def check_places(model: nn.Module, name: str) -> None:
    """Refuse a model of which parts were put outside of the GPUs for want of memory.

    Parameters
    ----------
    model : nn.Module
        Loaded with a device map.
    name : str
        Its name, for the message.

    Raises
    ------
    BackboneLoadError
        Naming what helps.
    """
    outside = {str(place) for place in places(model)} & {"cpu", "disk", "meta"}
    if is_spread(model) and outside:
        raise BackboneLoadError(
            f"{name!r} does not fit into the GPUs of this machine: device_map='auto' left parts of it on "
            f"{', '.join(sorted(outside))}, from where it cannot be trained. Use dtype='bfloat16', strategy='qlora', "
            "or a smaller model."
        )


def places(model: nn.Module) -> set[object]:
    """Return the devices over which accelerate spread a model, empty where it did not."""
    return set(getattr(model, "hf_device_map", {}).values())


def is_spread(model: nn.Module) -> bool:
    """Say whether a model stands on several devices, and must stay where it is.

    Examples
    --------
    >>> is_spread(nn.Linear(2, 2))
    False
    """
    return len(places(model)) > 1
