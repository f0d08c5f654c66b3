"""Dropout that costs little on a processor.

``torch.nn.Dropout`` draws one random number a value there, which takes about a seventh of a training step of a small
encoder. Here random bytes are drawn in bulk, eight from each 64-bit word.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 256
# A rate is rounded to a multiple of 1/256; where that would change it by more than this share, it is not used.
_TOLERANCE = 0.05
_LOWEST = torch.iinfo(torch.int64).min


def dropout(values: Tensor, rate: float) -> Tensor:
    """Set a random share of values to zero and scale the others so that the expectation stays.

    On a processor the rate is rounded to the nearest multiple of 1/256, and the scale is exact for the rounded rate;
    where rounding would change the rate by more than a twentieth, and on other devices, torch's own dropout is used.
    Random numbers come from torch's generator, so that ``torch.manual_seed`` repeats them.

    Parameters
    ----------
    values : Tensor
        Any shape, floating point.
    rate : float
        Share to set to zero, from 0 to below 1.

    Returns
    -------
    Tensor
        Of the same shape and type.

    Examples
    --------
    >>> import torch
    >>> sorted(set(dropout(torch.ones(1000), 0.5).tolist()))
    [0.0, 2.0]
    """
    threshold = _threshold(values, rate)
    if threshold is None:
        return functional.dropout(values, rate, training=True)
    return values * _mask(values, threshold)


def kept(values: Tensor, rate: float) -> Tensor:
    """Return what :func:`dropout` multiplies values with: zeros, and elsewhere what keeps the expectation.

    Parameters
    ----------
    values : Tensor
        Any shape, floating point; only its shape, type and device are used.
    rate : float
        Share of zeros, from 0 to below 1; rounded as there.

    Returns
    -------
    Tensor
        Of the same shape and type.

    Examples
    --------
    >>> import torch
    >>> sorted(set(kept(torch.ones(1000), 0.5).tolist()))
    [0.0, 2.0]
    """
    threshold = _threshold(values, rate)
    if threshold is None:
        return functional.dropout(torch.ones_like(values), rate, training=True)
    return _mask(values, threshold)


def _threshold(values: Tensor, rate: float) -> int | None:
    """Return which bytes drop a value, None if bytes are too coarse for the rate or the device has its own."""
    threshold = round(_LEVELS * rate)
    too_coarse = threshold == 0 or abs(threshold / _LEVELS - rate) > _TOLERANCE * rate
    return None if too_coarse or values.device.type != "cpu" else threshold


def _mask(values: Tensor, threshold: int) -> Tensor:
    """Return zeros with probability ``threshold / 256`` and elsewhere what keeps the expectation."""
    n = values.numel()
    # Without bounds, random_ leaves the sign bit of an int64 at zero, and one byte in eight would be too small.
    words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(_LOWEST, None)
    octets = words.view(torch.uint8)[:n].view(values.shape)
    # Comparing into a floating-point tensor skips a boolean tensor, whose conversion costs more than the comparison.
    mask = torch.ge(octets, threshold, out=torch.empty(values.shape, dtype=values.dtype))
    return mask.mul_(_LEVELS / (_LEVELS - threshold))


class FastDropout(nn.Dropout):
    """Drop-in for ``torch.nn.Dropout`` that uses :func:`dropout`.

    Examples
    --------
    >>> import torch
    >>> layer = FastDropout(0.1)
    >>> layer.eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the values, some set to zero in training mode."""
        if not self.training or self.p == 0.0:
            return input
        return dropout(input, self.p)


def replace_dropout(model: nn.Module) -> None:
    """Put :class:`FastDropout` in the place of every ``torch.nn.Dropout`` of a model.

    Parameters
    ----------
    model : nn.Module
        Changed in place; rates and modes stay.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2))
    >>> replace_dropout(model)
    >>> model[1]
    FastDropout(p=0.2, inplace=False)
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout and not child.inplace:
                fast = FastDropout(child.p)
                fast.train(child.training)
                setattr(module, name, fast)
