"""Which of two computations is faster on this processor."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_PASSES = 12


def speedup(usual: Callable[[], object], other: Callable[[], object]) -> float:
    """Return how many times as fast another computation is as the usual one, both on one thread.

    In turn, and the shortest of many: other work on the machine lengthens most passes of both kinds, and threads that
    wait for each other on busy cores hide any difference.

    Parameters
    ----------
    usual, other : callable
        Without arguments; each is called 12 times.

    Examples
    --------
    >>> numbers = torch.ones(1000, 1000)
    >>> speedup(lambda: numbers.exp(), lambda: numbers[0].exp()) > 1
    True
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [(_seconds(usual), _seconds(other)) for _ in range(_PASSES)]
    finally:
        torch.set_num_threads(threads)
    slow, fast = (min(column) for column in zip(*times, strict=True))
    return float(slow / fast)


def _seconds(computation: Callable[[], object]) -> float:
    start = time.perf_counter()
    computation()
    return time.perf_counter() - start
