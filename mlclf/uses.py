"""Options that choose further components: which of their fields do, and what values of them choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel


@dataclass(frozen=True)
class Uses:
    """Marks a field of options whose value chooses components: by name, by options, or several of them.

    A saved model lists what such fields name, so that plugins are asked for, and allowed or refused, before any of them
    is imported.

    Parameters
    ----------
    kind : str
        Kind of component, such as ``"loss"``.

    Examples
    --------
    >>> from mlclf.options import TrainingOptions
    >>> TrainingOptions.model_fields["augmentation"].metadata[-1]
    Uses(kind='augmentation')
    >>> list(choices(TrainingOptions, {"augmentation": {"name": "acme:typos", "rate": 0.2}}))
    [Choice(kind='augmentation', name='acme:typos', values={'rate': 0.2})]
    """

    kind: str


@dataclass(frozen=True)
class Choice:
    """A component that options choose.

    Parameters
    ----------
    kind : str
    name : str
    values : dict of str to object
        Of its options, where they are given: checked ones, or as JSON holds them.
    """

    kind: str
    name: str
    values: dict[str, Any]


def choices(options: type[BaseModel], values: Mapping[str, Any]) -> Iterator[Choice]:
    """Yield the components that values of options choose; those which the options of these choose are not followed.

    Fields marked with :class:`Uses` choose components, and those whose type names the options of one kind, such as
    ``str | LossOptions``.

    Parameters
    ----------
    options : type
        Class of the options.
    values : mapping of str to object
        Values of its fields: checked ones, or as JSON holds them, where options are ``{"name": ..., ...}``. Where one
        is absent, the default counts.
    """
    options.model_rebuild()  # a class whose types were not yet known where it was defined would seem to choose nothing
    for name, field in options.model_fields.items():
        marked = {mark.kind for mark in field.metadata if isinstance(mark, Uses)}
        for kind in sorted(marked or set(_kinds(field.annotation))):
            yield from _chosen(kind, values.get(name, field.get_default(call_default_factory=True)))


def _kinds(annotation: Any) -> Iterator[str]:
    """Yield the kinds of component whose options a type names."""
    kind = getattr(annotation, "kind", "") if isinstance(annotation, type) else ""
    if kind:
        yield str(kind)
    for part in get_args(annotation):
        yield from _kinds(part)


def _chosen(kind: str, value: Any) -> Iterator[Choice]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _chosen(kind, part)
    elif isinstance(value, BaseModel):
        values = {name: getattr(value, name) for name in type(value).model_fields}
        yield Choice(kind, str(getattr(type(value), "component", "")), values)
    elif isinstance(value, Mapping):
        values = {str(key): part for key, part in value.items() if key != "name"}
        yield Choice(kind, str(value.get("name", "")), values)
    elif value is not None:
        yield Choice(kind, str(value), {})
