"""Backbone ``acme:backbone``: bytes of the text, read by a convolution."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from mlclf.backbones.pooling import make_pooling
from mlclf.interfaces import Backbone, BackboneSource, Batch, LoadRequest
from mlclf.interfaces.backbone import Family
from mlclf.options import Options

_SPECIAL = ("<pad>", "<s>")


class AcmeBackboneOptions(Options):
    """Options of the backbone ``acme:backbone``.

    Parameters
    ----------
    hidden : int
        Size of a token state.
    width : int
        Bytes that a state is computed from.
    max_length : int
        Bytes of a text that are read.
    """

    component: ClassVar[str] = "acme:backbone"

    hidden: int = Field(default=64, ge=1)
    width: int = Field(default=5, ge=1)
    max_length: int = Field(default=512, ge=2)


class AcmeModel(nn.Module):
    """A vector a byte, and a convolution over them.

    Parameters
    ----------
    n_tokens, hidden, width : int
        Sizes of the vocabulary, of a state, and of the convolution.
    """

    def __init__(self, n_tokens: int, hidden: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, hidden)
        self.convolution = nn.Conv1d(hidden, hidden, width, padding="same")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return states ``(n_rows, length, hidden)``; padding is zero, as what lies beyond the ends of a text is."""
        vectors = self.embedding(input_ids) * attention_mask.unsqueeze(-1)
        states: Tensor = vectors + nn.functional.gelu(self.convolution(vectors.transpose(1, 2))).transpose(1, 2)
        return states


class AcmeBackbone(Backbone):
    """Bytes of the text, read by a convolution, without pretrained weights: train it with ``strategy="full"``.

    A backbone with pretrained weights reads them in ``load`` and names them in ``source``; one that brings weights to
    an architecture that transformers has extends ``mlclf.backbones.bert.BertBackbone`` and overrides ``locate``.

    Parameters
    ----------
    options : AcmeBackboneOptions
    """

    Options: ClassVar[type[Options]] = AcmeBackboneOptions
    family: ClassVar[Family] = "other"
    options: AcmeBackboneOptions

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Make tokenizer and model. Saved weights are put in afterwards; ``folder`` has what ``save_files`` wrote."""
        options = self.options
        tokenizer = _byte_tokenizer()
        self.set_tokenizer(tokenizer, pad_id=0, max_length=options.max_length)
        self.hidden_size = options.hidden
        self.model = AcmeModel(tokenizer.get_vocab_size(), options.hidden, options.width)
        self.pooling = make_pooling("max", options.hidden)

    def token_states(self, batch: Batch) -> Tensor:
        """Return the states after the last layer."""
        states: Tensor = self.model(batch.input_ids, batch.attention_mask)
        return states

    def source(self) -> BackboneSource:
        """Say that there are no pretrained weights: a saved model holds all of them."""
        return BackboneSource(kind="none", name="acme:backbone")


def _byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token a byte, and one before each text, so that an empty text is no empty row."""
    tokens = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer
