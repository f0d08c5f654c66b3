"""A linear layer whose initial low-rank part was moved into an adapter, and which remembers what it was."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlclf.linear_layers import plain_layer


class ResidualLinear(nn.Linear):
    """A frozen linear layer minus the initial value of its low-rank update.

    PiSSA and OLoRA start the update at a part of the weight and take that part out of the weight, so that the model
    begins unchanged. Their decomposition need not come out the same on another machine, so that the start is stored,
    and the weight computed from it: a saved update fits any copy of the pretrained model exactly, and the pretrained
    weight can be given back bit for bit.

    Parameters
    ----------
    bias : nn.Parameter or None
        Of the original layer.
    pristine : Tensor, shape (out_features, in_features)
        Pretrained weight.
    down, up : Tensor, shapes (rank, in_features) and (out_features, rank)
        Initial value of the update.
    scaling : float
        Factor of the update.
    conv1d : bool
        Whether the original layer was a ``Conv1D``.

    Attributes
    ----------
    pristine : nn.Parameter
        Pretrained weight.
    weight : Tensor
        ``pristine - scaling * initial_up @ initial_down``; not saved.
    initial_down, initial_up : Tensor
        Initial value of the update; saved by the strategy.
    """

    pristine: nn.Parameter
    initial_down: Tensor
    initial_up: Tensor

    def __init__(
        self,
        bias: nn.Parameter | None,
        pristine: Tensor,
        down: Tensor,
        up: Tensor,
        *,
        scaling: float,
        conv1d: bool = False,
    ) -> None:
        n_out, n_in = pristine.shape
        super().__init__(n_in, n_out, bias=bias is not None, device="meta")
        self.bias = bias  # type: ignore[assignment]  # None is what nn.Linear itself stores without a bias
        self.scaling, self.conv1d = scaling, conv1d
        self.pristine = nn.Parameter(pristine, requires_grad=False)
        del self.weight
        for name, tensor in (("weight", pristine), ("initial_down", down), ("initial_up", up)):
            self.register_buffer(name, tensor.detach().clone(), persistent=False)
        self.subtract()

    @torch.no_grad()
    def subtract(self) -> None:
        """Compute the weight; to be called whenever the pristine weight or the initial update were replaced."""
        self.weight.copy_(self.pristine - self.scaling * (self.initial_up @ self.initial_down).to(self.pristine.dtype))

    def plain(self, weight: Tensor) -> nn.Module:
        """Return an ordinary layer of the original kind with a weight and this layer's bias."""
        return plain_layer(weight, self.bias, conv1d=self.conv1d).train(self.training)
