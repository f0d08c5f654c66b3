"""One axis of a chart: where a value stands, and which ticks are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A logarithmic axis from this ratio on: below it, a linear one is easier to read.
_LOGARITHMIC_FROM = 10.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A scale from values to a part of the line from 0 to 1.

    Parameters
    ----------
    low, high : float
        Values at 0 and 1; logarithms of them where it is logarithmic.
    ticks : tuple of float
        Values to be marked.
    logarithmic : bool
    zero : bool
        Whether 0, which has no logarithm, stands at the lower end of a logarithmic axis.

    Examples
    --------
    >>> axis = Axis.over([0.41, 0.58])
    >>> axis.ticks
    (0.4, 0.45, 0.5, 0.55, 0.6)
    >>> round(axis.place(0.5), 2)
    0.5
    >>> Axis.over([0.001, 0.03, 1.0]).ticks
    (0.001, 0.01, 0.1, 1.0)
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False
    zero: bool = False

    @classmethod
    def over(cls, values: Sequence[float], *, logarithmic: bool | None = None) -> Axis:
        """Make an axis on which all values stand, whose ends are round numbers.

        Parameters
        ----------
        values : sequence of float
            Not negative.
        logarithmic : bool or None
            None decides by how far apart the values are.
        """
        positive = [value for value in values if value > 0]
        if logarithmic is None:
            logarithmic = bool(positive) and max(positive) / min(positive) >= _LOGARITHMIC_FROM
        return _powers(positive, zero=len(positive) < len(values)) if logarithmic else _linear(values)

    def place(self, value: float) -> float:
        """Return where a value stands, from 0 to 1; values outside stand at the ends."""
        if self.logarithmic:
            if value <= 0:
                return 0.0
            value = math.log10(value)
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def _linear(values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    # Values that differ by no more than rounding have no round numbers between them.
    if high - low <= 1e-9 * abs(high):
        low, high = (low - 0.05 * abs(low), high + 0.05 * abs(high)) if high else (0.0, 1.0)
    step = _step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    return Axis(first * step, last * step, ticks)


def _step(rough: float) -> float:
    """Return the round number next above a rough distance of ticks."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * step for step in _STEPS if power * step >= rough * (1 - 1e-9))


def _powers(positive: Sequence[float], *, zero: bool) -> Axis:
    if not positive:
        return _linear([0.0])
    first, last = math.floor(math.log10(min(positive)) + 1e-9), math.ceil(math.log10(max(positive)) - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(float(10.0**power) for power in range(first, last + 1))
    # A step of its own for 0, below the smallest power.
    return Axis(first - 1 if zero else first, last, (0.0, *ticks) if zero else ticks, logarithmic=True, zero=zero)
