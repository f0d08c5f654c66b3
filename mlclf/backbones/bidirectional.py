"""Causal language models whose tokens also see what comes after them."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedConfig

from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import Backbone, Batch


def open_masks(config: PreTrainedConfig) -> None:
    """Have a model make masks that hide padding alone; sliding windows then reach to both sides.

    Parameters
    ----------
    config : PreTrainedConfig
        Changed in place, before the model is built.
    """
    config.is_causal = False


def open_attention(model: nn.Module) -> None:
    """Switch off causality where attention layers decide on it themselves: without padding there is no mask.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    """
    for module in model.modules():
        if isinstance(getattr(module, "is_causal", None), bool):
            module.is_causal = False  # type: ignore[assignment]  # torch's annotation knows tensors and modules only


@torch.no_grad()
def check_sees_ahead(backbone: Backbone, model: str) -> None:
    """Refuse a model whose tokens do not see what comes after them, with padding and without.

    Parameters
    ----------
    backbone : Backbone
        Loaded.
    model : str
        Its name, for the message.

    Raises
    ------
    BackboneLoadError
        If the first token's state does not depend on the last token.
    """
    batch = backbone.example_batch().to(next(backbone.model.parameters()).device)
    row = batch.attention_mask.sum(dim=1).argmax()
    first, last = batch.attention_mask[row].nonzero()[[0, -1], 0]
    changed = batch.input_ids.clone()
    changed[row, last] = batch.input_ids[row, first]
    # The longest row beside a shorter one, for which there is a mask, and alone, for which there may be none.
    for rows in (slice(None), slice(int(row), int(row) + 1)):
        before, after = (
            backbone.token_states(Batch(ids[rows], batch.attention_mask[rows], n_samples=len(ids[rows])))
            for ids in (batch.input_ids, changed)
        )
        if torch.equal(before[:, first], after[:, first]):
            raise BackboneLoadError(
                f"LlmOptions(bidirectional=True): the tokens of {model!r} cannot be made to see what comes after them; "
                "its architecture has another kind of attention, or none. Use bidirectional=False."
            )
