"""Feed-forward blocks whose arguments are not counted whenever they are called.

transformers hands the block of a layer of BERT and its kin to ``apply_chunking_to_forward``, which inspects its
signature in every layer of every batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

# What the architectures call the block: ALBERT the second, the others the first.
_BLOCKS = ("feed_forward_chunk", "ff_chunk")


@contextmanager
def known_signatures(model: nn.Module) -> Iterator[None]:
    """Let the layers of a model know the signatures of their feed-forward blocks inside the block.

    They compute what they compute without it. Not for good: a layer that holds its own method is freed only when
    Python next looks for circles, which it does rarely.

    Parameters
    ----------
    model : nn.Module
        With layers of transformers or without.

    Examples
    --------
    >>> class Layer(nn.Module):
    ...     def feed_forward_chunk(self, states):
    ...         return 2 * states
    >>> layer = Layer()
    >>> with known_signatures(layer):
    ...     layer.feed_forward_chunk(3), inspect.signature(layer.feed_forward_chunk)
    (6, <Signature (states)>)
    """
    blocks = [(module, name) for module in model.modules() for name in _BLOCKS if hasattr(type(module), name)]
    for module, name in blocks:
        setattr(module, name, _with_signature(getattr(module, name)))
    try:
        yield
    finally:
        for module, name in blocks:
            delattr(module, name)


def _with_signature(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that carries its signature, which ``inspect.signature`` then gives back."""
    known: Any = partial(method)
    known.__signature__ = inspect.signature(method)
    return known  # type: ignore[no-any-return]
