"""Backbone ``llm``: any causal language model, read as an encoder of texts."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

from mlclf.backbones import memory as reading
from mlclf.backbones.bidirectional import check_sees_ahead, open_attention, open_masks
from mlclf.backbones.building import is_causal
from mlclf.backbones.device_map import check_can_spread, check_places, is_spread
from mlclf.backbones.pretrained import PretrainedBackbone, PretrainedOptions
from mlclf.backbones.visibility import counted_positions, sees_ahead
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import Batch, LoadRequest, Memory
from mlclf.interfaces.backbone import Family, PaddingSide
from mlclf.options import Options

DecoderPooling = Literal["last", "mean", "max", "attention"]
WeightType = Literal["float32", "bfloat16", "auto"]


class LlmOptions(PretrainedOptions):
    """Options of the backbone ``llm``.

    Parameters
    ----------
    model : str
        Model id of the hub or local folder.
    revision : str or None
        Branch, tag or commit of a model id.
    pooling : {"last", "mean", "max", "attention"}
        How the states of a row's tokens become one vector. Only the last token has read the whole text; a mean gives
        weight to tokens that have read its beginning alone.
    padding_side : {"right", "left"}
        Where short rows of a batch are filled up; the result is the same.
    max_length : int or None
        Tokens read at once, special tokens included; None takes what the model allows, at most 512.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many tokens.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.
    dropout : float or None
        Dropout of hidden states and attention in training; None takes the model's own.
    dtype : {"float32", "bfloat16", "auto"}
        Of the pretrained weights. ``"bfloat16"`` halves their memory, where the strategy leaves them as they are; what
        learns stays in float32. ``"auto"`` takes it for models that were saved in 16 bits.
    device_map : {"auto"} or None
        ``"auto"`` spreads the layers over all GPUs of the machine, for models larger than one of them. None puts the
        model on one device.
    bidirectional : bool
        Let every token see the whole text instead of what stands before it (as LLM2Vec does). The model was not
        pretrained so: it must learn it, and ``pooling="mean"`` suits it better than the last token.

    References
    ----------
    BehnamGhader et al. (2024), "LLM2Vec: Large Language Models Are Secretly Powerful Text Encoders", arXiv:2404.05961.

    Examples
    --------
    >>> LlmOptions(pooling="mean", max_length=256).padding_side
    'right'
    """

    component: ClassVar[str] = "llm"

    model: str = Field(default="Qwen/Qwen3-0.6B", min_length=1)
    pooling: DecoderPooling = "last"
    padding_side: PaddingSide = "right"
    dtype: WeightType = "float32"
    device_map: Literal["auto"] | None = None
    bidirectional: bool = False


class LlmBackbone(PretrainedBackbone):
    """A causal language model without its output layer, with its tokenizer and a pooling.

    Llama, Qwen2, Qwen3, Mistral, Gemma, Phi-3, GLM, GPT-2 and others that transformers implements are loaded through
    it. No code of a model repository is ever run.

    Parameters
    ----------
    options : LlmOptions
        Which model, and how it is read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mlclf.interfaces import LoadRequest
    >>> from mlclf.testing import tiny_decoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = LlmBackbone(LlmOptions(model=str(tiny_decoder("qwen3", folder))))
    ...     backbone.load(LoadRequest())
    >>> encoded = backbone.encode(["the cat sat", "a dog"])
    >>> backbone(backbone.collate(encoded, np.arange(2))).pooled.shape
    torch.Size([2, 32])
    """

    Options: ClassVar[type[Options]] = LlmOptions
    family: ClassVar[Family] = "causal-lm"
    options: LlmOptions

    def __init__(self, options: LlmOptions) -> None:
        super().__init__(options)
        self.padding_side = options.padding_side
        self.causal = not options.bidirectional

    @property
    def pooling_name(self) -> DecoderPooling:
        """Name of the pooling."""
        return self.options.pooling

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Load model and tokenizer, and make sure that tokens see the whole text where that is asked for."""
        if self.options.device_map is not None:
            check_can_spread()
        super().load(request, folder)
        self.causal = not sees_ahead(cast(PreTrainedModel, self.model).config)
        if self.options.bidirectional:
            check_sees_ahead(self, self.options.model)

    def adjust_config(self, config: PreTrainedConfig) -> None:
        """Open the masks where tokens are to see the whole text."""
        if self.options.bidirectional:
            open_masks(config)

    def adjust_model(self, model: PreTrainedModel) -> None:
        """Do the same in the attention layers, and refuse a model that does not fit where it must be."""
        if self.options.bidirectional:
            open_attention(model)
        check_places(model, self.options.model)

    def weight_request(self, request: LoadRequest) -> LoadRequest:
        """Ask for the options' type and places of the weights."""
        saved = str(self._config.get("dtype", self._config.get("torch_dtype")))
        half = self.options.dtype == "bfloat16" or (self.options.dtype == "auto" and saved.endswith("float16"))
        dtype = torch.bfloat16 if half else request.dtype
        return replace(request, dtype=dtype, device_map=self.options.device_map)

    def token_states(self, batch: Batch) -> Tensor:
        """Return the states after the last layer, in float32 where the weights are less: pooling and head are too."""
        return _at_least_float32(super().token_states(batch))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Leave a model where it is that stands on several devices; what is moved is the pooling."""
        if not is_spread(getattr(self, "model", self)):
            return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.pooling._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def check_architecture(self, kind: type[PreTrainedConfig], values: dict[str, Any]) -> None:
        """Raise BackboneLoadError where a configuration is not that of a causal language model."""
        if not is_causal(kind) or kind not in MODEL_MAPPING:
            raise BackboneLoadError(
                f"Model {self.options.model!r} ({kind.model_type}) is no causal language model. "
                "Use backbone=\"bert\" for encoders, or choose a model such as 'Qwen/Qwen3-0.6B'."
            )

    def attention_for(self, kind: type[PreTrainedModel]) -> str:
        """Return torch's fused attention, or the model's own where it has no other (Gemma 2 caps its scores)."""
        return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """Return what the model is called with: by default positions are counted from a row's first token.

        Without them they would be counted from the padding of rows that are padded on the left. A model that takes no
        positions (BLOOM) sees distances only.
        """
        plain = super().inputs(batch)
        takes = "position_ids" in inspect.signature(type(self.model).forward).parameters
        if not takes or "position_ids" in plain:
            return plain
        return {**plain, "position_ids": counted_positions(batch.attention_mask)}

    @property
    def remembers(self) -> bool:
        """Whether the model reads from left to right and keeps keys and values: not while it recomputes its layers."""
        return self.causal and not (hasattr(self, "model") and reading.recomputes(cast(PreTrainedModel, self.model)))

    def read(self, batch: Batch) -> tuple[Tensor, Memory]:
        """Read a batch and remember it."""
        states, memory = reading.read(cast(PreTrainedModel, self.model), batch, self.inputs)
        return _at_least_float32(states), memory

    def peek(
        self,
        memory: Memory,
        ids: Tensor,
        position_ids: Tensor | None = None,
        visible: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the states of further tokens, without remembering them."""
        twin = cast(reading.KeyValueMemory, memory).copy()
        return self.read_on(twin, ids, position_ids, visible, mask)

    def read_on(
        self,
        memory: Memory,
        ids: Tensor,
        position_ids: Tensor | None = None,
        visible: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the states of further tokens, and remember them in ``memory``."""
        model, known = cast(PreTrainedModel, self.model), cast(reading.KeyValueMemory, memory)
        return _at_least_float32(reading.read_on(model, known, ids, position_ids, visible, mask))


def _at_least_float32(states: Tensor) -> Tensor:
    return states if states.dtype is torch.float64 else states.float()
