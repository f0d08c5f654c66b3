"""Backbone ``bert``: any encoder of the BERT family."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

from mlclf.backbones import attention
from mlclf.backbones.building import is_causal
from mlclf.backbones.pretrained import PretrainedBackbone, PretrainedOptions
from mlclf.exceptions import BackboneLoadError
from mlclf.options import Options

EncoderPooling = Literal["mean", "cls", "max", "attention"]


class BertOptions(PretrainedOptions):
    """Options of the backbone ``bert``.

    Parameters
    ----------
    model : str
        Model id of the hub or local folder.
    revision : str or None
        Branch, tag or commit of a model id.
    pooling : {"mean", "cls", "max", "attention"}
        How the states of a row's tokens become one vector.
    max_length : int or None
        Tokens read at once, special tokens included; None takes what the model allows, at most 512.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many tokens.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.
    dropout : float or None
        Dropout of hidden states and attention in training; None takes the model's own.

    Examples
    --------
    >>> BertOptions(pooling="cls", max_length=128).pooling
    'cls'
    """

    component: ClassVar[str] = "bert"

    model: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", min_length=1)
    pooling: EncoderPooling = "mean"


class BertBackbone(PretrainedBackbone):
    """An encoder of the BERT family with its tokenizer and a pooling.

    BERT, RoBERTa, DistilBERT, DeBERTa-v2/3, ModernBERT, XLM-RoBERTa, ELECTRA, ALBERT, MPNet and others that
    transformers implements are loaded through it. No code of a model repository is ever run.

    Parameters
    ----------
    options : BertOptions
        Which model, and how it is read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mlclf.interfaces import LoadRequest
    >>> from mlclf.testing import tiny_encoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertBackbone(BertOptions(model=str(tiny_encoder("bert", folder))))
    ...     backbone.load(LoadRequest())
    >>> encoded = backbone.encode(["the cat sat", "a dog"])
    >>> backbone(backbone.collate(encoded, np.arange(2))).pooled.shape
    torch.Size([2, 32])
    """

    Options: ClassVar[type[Options]] = BertOptions
    options: BertOptions

    @property
    def pooling_name(self) -> EncoderPooling:
        """Name of the pooling."""
        return self.options.pooling

    def check_architecture(self, kind: type[PreTrainedConfig], values: dict[str, Any]) -> None:
        """Raise BackboneLoadError where a configuration is not that of an encoder."""
        name = self.options.model
        if is_causal(kind) or values.get("is_decoder"):
            raise BackboneLoadError(
                f"Model {name!r} ({kind.model_type}) is a causal language model; backbone 'bert' reads encoders. "
                'Use backbone="llm" for it, or choose an encoder.'
            )
        if getattr(kind, "is_encoder_decoder", False) or kind not in MODEL_MAPPING:
            raise BackboneLoadError(
                f"Model {name!r} ({kind.model_type}) is no encoder of the BERT family. Choose a model such as "
                "'sentence-transformers/all-MiniLM-L6-v2', 'FacebookAI/roberta-base' or 'answerdotai/ModernBERT-base'."
            )

    def attention_for(self, kind: type[PreTrainedModel]) -> str:
        """Return this package's attention, or that of DeBERTa and MPNet, which have only their own."""
        if not getattr(kind, "_supports_attention_backend", False):
            return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
        return attention.NAME
