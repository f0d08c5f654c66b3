"""Linear layers in their two forms: ``torch.nn.Linear``, and transformers' ``Conv1D``, whose weight lies on its side.

GPT-2 and its kin are built of the latter. What adapts linear layers works on the former alone: a ``Conv1D`` is seen
as one, and put back as what it was.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_conv1d(module: nn.Module) -> bool:
    """Say whether a module is a ``Conv1D`` of transformers.

    Examples
    --------
    >>> is_conv1d(nn.Linear(2, 2))
    False
    """
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is a linear layer in either form.

    Examples
    --------
    >>> is_linear(nn.Linear(2, 2)), is_linear(nn.Dropout())
    (True, False)
    """
    return isinstance(module, nn.Linear) or is_conv1d(module)


def features(layer: nn.Module) -> tuple[int, int]:
    """Return how many features a linear layer takes and gives.

    Examples
    --------
    >>> features(nn.Linear(2, 3))
    (2, 3)
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    n_in, n_out = layer.get_parameter("weight").shape
    return n_in, n_out


class Conv1dAsLinear(nn.Linear):
    """A ``Conv1D`` seen as an ordinary linear layer, with which it shares its weight.

    Parameters
    ----------
    conv1d : nn.Module
        The original layer.

    Examples
    --------
    >>> from transformers.pytorch_utils import Conv1D
    >>> conv1d, x = Conv1D(3, 2), torch.randn(5, 2)
    >>> torch.allclose(Conv1dAsLinear(conv1d)(x), conv1d(x))
    True
    """

    def __init__(self, conv1d: nn.Module) -> None:
        weight = conv1d.get_parameter("weight")
        n_in, n_out = weight.shape
        super().__init__(n_in, n_out, device="meta")
        self.weight = nn.Parameter(weight.detach().t(), requires_grad=weight.requires_grad)
        self.bias = conv1d.get_parameter("bias")
        self.training = conv1d.training


def plain_layer(weight: Tensor, bias: nn.Parameter | None, *, conv1d: bool) -> nn.Module:
    """Return an ordinary frozen layer.

    Parameters
    ----------
    weight : Tensor, shape (out_features, in_features)
    bias : nn.Parameter or None
    conv1d : bool
        Whether to return a ``Conv1D`` instead of a ``torch.nn.Linear``.

    Examples
    --------
    >>> plain_layer(torch.zeros(3, 2), nn.Parameter(torch.zeros(3)), conv1d=True).weight.shape
    torch.Size([2, 3])
    """
    from transformers.pytorch_utils import Conv1D

    n_out, n_in = weight.shape
    with torch.device("meta"):  # no random numbers are drawn for what is replaced at once
        layer = Conv1D(n_out, n_in) if conv1d else nn.Linear(n_in, n_out, bias=bias is not None)
    layer.weight = nn.Parameter(weight.t().contiguous() if conv1d else weight, requires_grad=False)
    layer.bias = bias
    return layer
