"""What is exported where it is not the fitted model itself: other pretrained weights, or weights of another type."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import torch

from mlclf.exceptions import BackboneLoadError, OptionsError
from mlclf.interfaces import BackboneSource
from mlclf.model import Model
from mlclf.network import MultiLabelNetwork
from mlclf.onnx.entries import Base
from mlclf.onnx.graph import copy_to_processor

logger = logging.getLogger(__name__)


def check_base(model: Model, base: str, *, validated: bool) -> None:
    """Refuse another base than that of training where there is none, or where nobody would look what it does.

    Parameters
    ----------
    model : Model
    base : {"fitted", "original"}
    validated : bool
        Whether there are validation data.

    Raises
    ------
    OptionsError
    """
    known: tuple[Base, ...] = ("fitted", "original")
    if base not in known:
        raise OptionsError(f"base must be {' or '.join(map(repr, known))}, got {base!r}.")
    if base == "fitted":
        return
    if model.strategy.load_request().quantization is None:
        raise OptionsError(
            f"base='original' puts pretrained weights in the place of rounded ones, and strategy "
            f"{model.parts.names['strategy']!r} did not round any. Use base='fitted'."
        )
    if not validated:
        raise OptionsError(
            "base='original' answers otherwise than the fitted model, whose updates and thresholds were made for "
            "rounded weights. Give validation_data=(X, Y), on which it is evaluated and its thresholds are tuned "
            "again, or use base='fitted'."
        )


def exported_model(model: Model, base: Base) -> Model:
    """Return the model that an exported graph is to answer like.

    Parameters
    ----------
    model : Model
        Left as it is.
    base : {"fitted", "original"}

    Returns
    -------
    Model
        ``model`` itself where it computes in float32 with the weights that are exported.
    """
    if base == "original":
        return with_original_weights(model)
    if all(parameter.dtype is torch.float32 for parameter in model.network.parameters()):
        return model
    logger.info("The pretrained weights are of 16 bits: the exported model computes with them in float32.")
    return replace(model, network=copy_to_processor(model.network).float().eval(), device=torch.device("cpu"))


def with_original_weights(model: Model) -> Model:
    """Return a model with what was trained over the pretrained weights as they were before rounding.

    Parameters
    ----------
    model : Model
        Left as it is. Its pretrained weights are loaded once more, from where they came.

    Returns
    -------
    Model
        With the same thresholds and calibration, which were made for other probabilities.

    Raises
    ------
    BackboneLoadError
        If the pretrained weights are absent, or others than those that were rounded.
    """
    fitted, parts = model.network.backbone, model.parts
    backbone, strategy = parts.backbone_class(parts.backbone), parts.strategy_class(parts.strategy)
    vocabulary = parts.head_capabilities.vocabulary
    backbone.load(replace(strategy.load_request(), quantization=None, vocabulary=vocabulary))
    _check_same(model, backbone.source())
    strategy.adapt(backbone)
    strategy.finish(backbone)
    with torch.no_grad():
        strategy.load_state(backbone, strategy.state(fitted))
    backbone.pooling = copy.deepcopy(fitted.pooling)
    backbone.encoder = fitted.encoder  # with the length of texts that its head left
    network = MultiLabelNetwork(backbone, copy.deepcopy(model.network.head)).to(model.device).eval()
    return replace(model, network=network, strategy=strategy)


def _check_same(model: Model, found: BackboneSource) -> None:
    fitted = model.network.backbone.source()
    # Where nothing is known of them, they were loaded from the same place twice.
    if fitted.same_weights(found) is False:
        raise BackboneLoadError(
            f"The pretrained weights {fitted.name!r} are not those that this model was trained on: their checksum or "
            f"revision differs. Put back revision {fitted.revision}, or use base='fitted'."
        )
