"""Head ``bce``: one logit a label from the pooled vector, by a linear layer or a small MLP."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mlclf.heads.bias import first_bias, restart_bias
from mlclf.heads.precision import without_autocast
from mlclf.interfaces.backbone import Backbone, BackboneOutput
from mlclf.interfaces.head import HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import LossChoice, make_loss
from mlclf.options import Options

# Standard deviation of the first output weights. A pooled vector has a length of 4 to 20, so that first logits are
# within about .02 of their bias; and with a random head out of the way, the first steps distort the backbone less
# (Kumar et al. 2022, arXiv:2202.10054).
_OUTPUT_STD = 1e-3
_BLOCK = 16


class BceOptions(Options):
    """How the head ``bce`` is built and trained.

    Parameters
    ----------
    loss : str or LossOptions
        ``"bce"``, ``"balanced"``, ``"focal"``, ``"asymmetric"``, ``"zlpr"``, ``"distribution-balanced"`` or a plugin's
        (``"acme:soft-f1"``), or the parameters of one of them, such as ``FocalOptions(gamma=1)``. A dictionary
        ``{"name": "focal", "gamma": 1}``, as configuration files have it, is turned into parameters.
    hidden : tuple of int
        Widths of hidden layers between the pooled vector and the labels; none is a linear head.
    dropout : float
        Share of inputs of every layer that are zeroed in training.
    prior_bias : bool
        Start the output bias at the logits of the labels' frequencies instead of 0.
    label_weights : dict of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Examples
    --------
    >>> from mlclf.heads.bce import BceOptions
    >>> BceOptions(loss="focal", hidden=(256,)).replace(dropout=0.2).dropout
    0.2
    """

    component = "bce"
    loss: LossChoice = "bce"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dropout: float = Field(default=0.1, ge=0, lt=1)
    prior_bias: bool = True
    label_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None


class BceHead(LogitsHead):
    """One logit a label from the pooled vector, by a linear layer or a multi-layer perceptron.

    The output weights start near 0 and the output bias at the logits of the labels' frequencies, so that the first
    probabilities are the label priors (Lin et al. 2017, arXiv:1708.02002, section 3.3, do so for rare classes).
    Without that, training begins with many steps that learn nothing but how rare labels are. The head computes in
    float32 whatever the backbone computes in.

    Parameters
    ----------
    options : BceOptions

    Attributes
    ----------
    hidden : nn.Sequential
        Dropout, and the hidden layers where there are some; set by ``bind``.
    output : nn.Linear
        Gives one logit a label; set by ``bind``.
    loss : MultiLabelLoss
        Set by ``bind``.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from types import SimpleNamespace
    >>> from mlclf.heads.bce import BceHead, BceOptions
    >>> from mlclf.interfaces import LabelStatistics
    >>> head = BceHead(BceOptions(hidden=(16,)))
    >>> counts = LabelStatistics(("joy", "fear"), positives=np.array([49, 9]), known=np.array([98, 98]))
    >>> head.bind(SimpleNamespace(hidden_size=8), counts)
    >>> head.output.bias.sigmoid().tolist()
    [0.5, 0.10000000149011612]
    """

    Options = BceOptions
    capabilities = HeadCapabilities(reads="pooled")
    options: BceOptions
    hidden: nn.Sequential
    output: nn.Linear

    def check(self, labels: LabelStatistics) -> None:
        """Refuse weights of labels that do not exist.

        Raises
        ------
        UnknownLabelError
            If ``label_weights`` has a name that is no label.
        """
        make_loss(self.options.loss, labels, label_weights=self.options.label_weights)

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Create loss and layers; the counts suffice, as a saved model has them."""
        options = self.options
        self.loss = make_loss(options.loss, labels, label_weights=options.label_weights)
        widths = (backbone.hidden_size, *options.hidden)
        self.hidden = _hidden_layers(widths, options.dropout)
        self.output = nn.Linear(widths[-1], labels.n_labels)
        nn.init.normal_(self.output.weight, std=_OUTPUT_STD)
        with torch.no_grad():
            self.output.bias.copy_(first_bias(options, labels))

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> BceHead:
        """Return a head for more labels; labels that no row told about so far start at their prior now."""
        grown = cast(BceHead, super().grow(backbone, before, after))
        restart_bias(grown.output.bias, self.options, before, after)
        return grown

    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits of each row, float32 ``(n_rows, n_labels)``."""
        with without_autocast(output.pooled.device.type):
            return _in_blocks(self.output, self.hidden(output.pooled.float()))


def _in_blocks(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Apply a linear layer to 16 labels or a multiple of that at a time, the last ones filled up with zeros.

    A processor's matrix product rounds a column differently with the number of columns beside it. With multiples of 16
    it does not (tests/test_add_labels.py), so that labels added later leave the answers for others as they are, to the
    last bit. A graph that is exported stays the plain product.
    """
    rest = layer.out_features % _BLOCK
    if rest == 0 or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        plain: Tensor = layer(inputs)
        return plain
    whole, filled = layer.out_features - rest, (0, _BLOCK - rest)
    last = F.linear(inputs, F.pad(layer.weight[whole:], (0, 0, *filled)), F.pad(layer.bias[whole:], filled))
    if not whole:
        return last[:, :rest]
    return torch.cat([F.linear(inputs, layer.weight[:whole], layer.bias[:whole]), last[:, :rest]], dim=1)


def _hidden_layers(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Return dropout, and for each further width a linear layer, GELU and dropout."""
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
