"""Skeleton: a backbone without its weights, by which to tell before a fit what can be done with it."""

from __future__ import annotations

import logging
import warnings

import torch

from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.interfaces import Backbone, LoadRequest
from mlclf.options import Options

logger = logging.getLogger(__name__)


def skeleton(kind: type[Backbone], options: Options) -> Backbone | None:
    """Return a backbone with all modules and none of their numbers, which takes no memory.

    Parameters
    ----------
    kind : type of Backbone
    options : Options

    Returns
    -------
    Backbone or None
        On torch's device ``"meta"``. None for transformers models, which are explored by running them, and for
        backbones that cannot be made without their weights: what is wrong with them shows when they are loaded.

    Examples
    --------
    >>> from mlclf.plugins import resolve
    >>> _, kind, options = resolve("backbone", "bert")
    >>> skeleton(kind, options) is None
    True
    """
    if issubclass(kind, PretrainedBackbone):
        return None
    backbone = kind(options)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            # torch warns where a plugin reads weights all the same: they go nowhere.
            warnings.simplefilter("ignore")
            backbone.load(LoadRequest(weights=False))
    except Exception as error:
        logger.debug("No skeleton of backbone %r: %s", options.component, error)
        return None
    return backbone
