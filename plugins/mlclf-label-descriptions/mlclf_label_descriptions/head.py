"""Head ``label-descriptions:bi-encoder``: how similar a text is to what each label is said to mean."""

from __future__ import annotations

import logging
import math
from difflib import get_close_matches
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclf.interfaces import Backbone, BackboneOutput, Batch, HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import make_loss
from mlclf_label_descriptions.embedding import embed, embed_constant
from mlclf_label_descriptions.options import BiEncoderOptions

logger = logging.getLogger(__name__)

# A processor's matrix product rounds a column differently with the number of columns beside it, unless that is a
# multiple of this: labels that are added later then leave the answers for others as they are.
_COLUMNS = 16


class BiEncoderHead(LogitsHead):
    """A label's logit is the similarity of the text to the label's name or description, both read by one backbone.

    ``logit(l) = scale * (similarity(text, label l) - offset(l))``. Nothing but scale and offsets has to be learned, so
    that the head answers before any training, and for a label added after it, as well as its backbone knows what texts
    mean. In training, texts and descriptions go through the same weights.

    Parameters
    ----------
    options : BiEncoderOptions

    Attributes
    ----------
    vectors : Tensor, shape (n_labels, hidden)
        Of the labels; set by ``bind``, and a parameter with ``label_vectors="learned"``.
    log_scale : nn.Parameter, shape ()
        Set by ``bind``.
    offset : nn.Parameter, shape (n_labels,)
        Set by ``bind``.

    References
    ----------
    Reimers and Gurevych (2019), "Sentence-BERT", arXiv:1908.10084, for two encoders of shared weights. Zhai et al.
    (2023), "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343, for a learned scale and bias.

    Examples
    --------
    >>> BiEncoderHead(BiEncoderOptions(descriptions={"joy": "someone is happy"})).capabilities.zero_shot
    True
    """

    Options = BiEncoderOptions
    capabilities = HeadCapabilities(reads="pooled", label_text=True, zero_shot=True)
    options: BiEncoderOptions
    vectors: Tensor
    length: Tensor

    def check(self, labels: LabelStatistics) -> None:
        """Refuse weights of labels that do not exist; say where a description belongs to none.

        Raises
        ------
        UnknownLabelError
            If ``label_weights`` has a name that is no label.
        """
        make_loss(self.options.loss, labels, label_weights=self.options.label_weights)
        for name in self.options.descriptions or {}:
            if name not in labels.names:
                close = get_close_matches(name, labels.names, n=1)
                meant = f" Did you mean {close[0]!r}?" if close else ""
                logger.warning("descriptions has %r, which is no label yet.%s", name, meant)

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Read the labels; the counts suffice, as a saved model has them."""
        options = self.options
        self.loss = make_loss(options.loss, labels, label_weights=options.label_weights)
        self.texts = tuple(options.text_of(name) for name in labels.names)
        vectors = embed_constant(backbone, self.texts).cpu()
        if options.label_vectors == "learned":
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        # Dot products grow with the square of the vectors' length, which no two backbones share.
        self.register_buffer("length", vectors.square().sum(dim=1).mean().sqrt().clamp(min=1e-6))
        self.log_scale = nn.Parameter(torch.tensor(math.log(options.scale)))
        self.offset = nn.Parameter(torch.full((labels.n_labels,), options.offset))

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> BiEncoderHead:
        """Return a head for more labels; those that no row told about so far have the mean offset of the others."""
        grown = cast(BiEncoderHead, super().grow(backbone, before, after))
        learned = torch.zeros(after.n_labels, dtype=torch.bool)
        learned[: before.n_labels] = torch.from_numpy(before.known > 0)
        if learned.any():
            with torch.no_grad():
                grown.offset[~learned] = grown.offset[learned].mean()
        return grown

    def refresh(self, backbone: Backbone) -> None:
        """Read the labels anew, as the backbone reads texts now."""
        if self.options.label_vectors == "encoded":
            self.vectors.copy_(embed_constant(backbone, self.texts))

    def losses(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the loss of each sample; descriptions are read with gradients where the backbone learns."""
        learns = any(parameter.requires_grad for parameter in backbone.parameters())
        if not (self.training and learns and self.options.label_vectors == "encoded"):
            return super().losses(backbone, batch)
        rows = self._logits(backbone(batch).pooled.float(), embed(backbone, self.texts))
        loss: Tensor = self.loss(backbone.aggregate_windows(rows, batch), batch.targets, batch.known)
        return loss

    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits of each row, float32 ``(n_rows, n_labels)``."""
        return self._logits(output.pooled.float(), self.vectors)

    def _logits(self, texts: Tensor, labels: Tensor) -> Tensor:
        """Return logits of vectors of texts with vectors of labels."""
        if self.options.similarity == "cosine":
            texts, labels = F.normalize(texts, dim=1), F.normalize(labels, dim=1)
        else:
            texts, labels = texts / self.length, labels / self.length
        return self.log_scale.exp() * (_products(texts, labels) - self.offset)


def _products(texts: Tensor, labels: Tensor) -> Tensor:
    """Return the dot product of each text with each label, in float32 whatever mixed precision says."""
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return F.linear(texts, labels)
    with torch.autocast(texts.device.type, enabled=False):
        filled = F.pad(labels.float(), (0, 0, 0, -len(labels) % _COLUMNS))
        return F.linear(texts.float(), filled)[:, : len(labels)]
