"""Heads ``label-attention:lwan`` and ``label-attention:laat``: every label reads the tokens by itself."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mlclf.heads import first_bias, restart_bias, without_autocast
from mlclf.interfaces import Backbone, BackboneOutput, HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import make_loss
from mlclf_label_attention.options import LaatOptions, LwanOptions
from mlclf_label_attention.reading import attention, read_labels

# Of the first output weights: small, so that first probabilities are the labels' frequencies, as in the head "bce".
_OUTPUT_STD = 1e-3
# Of the first queries, as in the code of Vu et al.: every label starts close to the mean of the tokens.
_QUERY_STD = 0.03


class LwanHead(LogitsHead):
    """Label-wise attention: each label averages the token states by weights of its own, and scores the average.

    A label that one phrase of a long text decides about looks at that phrase; a pooled vector holds all labels' phrases
    at once. The head computes in float32 whatever the backbone computes in.

    Parameters
    ----------
    options : LwanOptions

    Attributes
    ----------
    queries : nn.Parameter, shape (n_labels, width)
        What each label looks for; set by ``bind``.
    weights : nn.Parameter, shape (n_labels, hidden)
        What each label makes of what it found; set by ``bind``.
    bias : nn.Parameter, shape (n_labels,)
        Set by ``bind``.

    References
    ----------
    Mullenbach et al. (2018), "Explainable Prediction of Medical Codes from Clinical Text", arXiv:1802.05695.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> head = LwanHead(LwanOptions())
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> head.bind(SimpleNamespace(hidden_size=8), counts)
    >>> head.bias.sigmoid().tolist()
    [0.5, 0.10000000149011612]
    """

    Options = LwanOptions
    capabilities = HeadCapabilities(reads="tokens")
    options: LwanOptions

    def check(self, labels: LabelStatistics) -> None:
        """Refuse weights of labels that do not exist.

        Raises
        ------
        UnknownLabelError
            If ``label_weights`` has a name that is no label.
        """
        make_loss(self.options.loss, labels, label_weights=self.options.label_weights)

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Create loss and parameters; the counts suffice, as a saved model has them."""
        options = self.options
        self.loss = make_loss(options.loss, labels, label_weights=options.label_weights)
        self.dropout = nn.Dropout(options.dropout)
        width = self.make_keys(backbone.hidden_size)
        self.queries = nn.Parameter(torch.randn(labels.n_labels, width) * _QUERY_STD)
        self.weights = nn.Parameter(torch.randn(labels.n_labels, backbone.hidden_size) * _OUTPUT_STD)
        self.bias = nn.Parameter(first_bias(options, labels))

    def make_keys(self, hidden: int) -> int:
        """Create what :meth:`keys` needs, and return the keys' size."""
        return hidden

    def keys(self, states: Tensor) -> Tensor:
        """Return what attention looks at, shape (n_rows, length, width)."""
        return states

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> LwanHead:
        """Return a head for more labels; labels that no row told about so far start at their prior now."""
        grown = cast(LwanHead, super().grow(backbone, before, after))
        restart_bias(grown.bias, self.options, before, after)
        return grown

    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits of each row, float32 ``(n_rows, n_labels)``."""
        with without_autocast(output.tokens.device.type):
            states = self.dropout(output.tokens.float())
            return read_labels(self.keys(states), states, output.mask, self.queries, self.weights) + self.bias

    @torch.no_grad()
    def attention(self, output: BackboneOutput) -> Tensor:
        """Return how much each label attends to each token: where to look for its reasons.

        Parameters
        ----------
        output : BackboneOutput

        Returns
        -------
        Tensor of float32, shape (n_rows, n_labels, length)
            Sums to 1 over the tokens of a row; 0 at padding.
        """
        with without_autocast(output.tokens.device.type):
            return attention(self.keys(output.tokens.float()), output.mask, self.queries).transpose(1, 2)


class LaatHead(LwanHead):
    """Label attention over a hidden layer: what a label looks for need not be a direction of the states.

    Keys are ``tanh(states @ W)``; averaged are the states themselves.

    Parameters
    ----------
    options : LaatOptions

    Attributes
    ----------
    hidden : nn.Linear
        The layer W; set by ``bind``.

    References
    ----------
    Vu et al. (2020), "A Label Attention Model for ICD Coding from Clinical Text", arXiv:2007.06351.

    Examples
    --------
    >>> LaatHead(LaatOptions(width=512)).options.width
    512
    """

    Options = LaatOptions
    options: LaatOptions

    def make_keys(self, hidden: int) -> int:
        """Create the hidden layer."""
        self.hidden = nn.Linear(hidden, self.options.width, bias=False)
        return self.options.width

    def keys(self, states: Tensor) -> Tensor:
        """Return the states' hidden layer."""
        return torch.tanh(self.hidden(states))
