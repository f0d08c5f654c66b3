"""Whose parameters are whose, where several strategies share a model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from mlclf.exceptions import IncompatibleComponentsError


def learning(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a model that learn."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def names_of_each(
    model: nn.Module, owned: Sequence[Sequence[nn.Parameter]], strategies: Sequence[str]
) -> tuple[frozenset[str], ...]:
    """Return the names in a model of each strategy's parameters.

    Names instead of the parameters themselves fit every copy of the model, also a pickled one.

    Parameters
    ----------
    model : nn.Module
        After all strategies have adapted it: one that wraps a layer changes the names inside.
    owned : sequence of sequence of nn.Parameter
        What each strategy lets learn.
    strategies : sequence of str
        Their names, for messages.

    Raises
    ------
    IncompatibleComponentsError
        If two strategies train one parameter, or one has replaced another's.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    owner: dict[int, str] = {}
    for strategy, parameters in zip(strategies, owned, strict=True):
        for parameter in parameters:
            if id(parameter) not in names:
                raise IncompatibleComponentsError(
                    f"What strategy {strategy!r} trains was replaced by one that follows it in the chain "
                    f"({', '.join(strategies)}). Leave one of them out."
                )
            if id(parameter) in owner:
                raise IncompatibleComponentsError(
                    f"Strategies {owner[id(parameter)]!r} and {strategy!r} both train {names[id(parameter)]!r}. "
                    "Leave one of them out."
                )
            owner[id(parameter)] = strategy
    return tuple(frozenset(names[id(parameter)] for parameter in parameters) for parameters in owned)


@contextmanager
def only_learning(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Let some parameters learn and no others, for the length of a block.

    A strategy takes every parameter that learns for its own. Within the block it meets the model as if it alone had
    adapted it.

    Parameters
    ----------
    model : nn.Module
        As it was before again afterwards; parameters that the block removed are left alone.
    names : collection of str
        Those that learn.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in names
    try:
        yield
    finally:
        for parameter, learned in before:
            parameter.requires_grad = learned
