"""Label names: what can be one, how they are sorted, and what was probably meant by an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError

Label: TypeAlias = str | int
"""A label's name: text, or a whole number."""


def is_label_type(kind: type) -> bool:
    """Return whether values of a type can be label names."""
    return issubclass(kind, (str, int, np.integer)) and not issubclass(kind, bool)


def as_label(value: Any) -> Label:
    """Return a label as a plain ``str`` or ``int``, whatever subclass or NumPy type it came in."""
    # str(value) would give "Mood.JOY" for a member of a str enumeration.
    return str.__str__(value) if isinstance(value, str) else int(value)


def sort_key(label: Label) -> tuple[bool, Label]:
    """Sort whole numbers before text, each by value."""
    return isinstance(label, str), label


def checked_names(names: Iterable[Any]) -> tuple[Label, ...]:
    """Return label names as plain ``str`` and ``int``.

    Parameters
    ----------
    names : iterable of str or int

    Returns
    -------
    tuple of str or int

    Raises
    ------
    InvalidInputError
        If a name is neither str nor int, is empty, or occurs twice (1 and "1" count as one), or there is none.
    """
    if isinstance(names, (str, bytes)):
        raise InvalidInputError(f"classes must be a sequence of labels, got a single str. Wrap it: [{names!r}].")
    names = list(names)
    if not names:
        raise InvalidInputError("There must be at least one label, got no classes. Name the labels that may occur.")
    for name in names:
        if not is_label_type(type(name)) or name == "":
            raise InvalidInputError(f"A label name must be an int or a str that is not empty, got {name!r}.")
    plain = tuple(map(as_label, names))
    if len(set(plain)) < len(plain):
        twice = next(name for place, name in enumerate(plain) if name in plain[:place])
        raise InvalidInputError(f"Label {twice!r} occurs twice among classes or columns. Name each label once.")
    alike = {str(name) for name in plain if isinstance(name, int)} & {name for name in plain if isinstance(name, str)}
    if alike:
        number = alike.pop()
        raise InvalidInputError(f"Labels {number} and {number!r} read alike in reports and files. Rename one of them.")
    return plain


def names_array(names: tuple[Label, ...]) -> NDArray[Any]:
    """Return names as an array; mixed whole numbers and text stay what they are."""
    return np.asarray(names, dtype=None if len({type(name) for name in names}) == 1 else object)


def closest_hint(label: Any, names: Sequence[Label]) -> str:
    """Return a sentence that names the known label most like an unknown one."""
    by_text = {str(name): name for name in names}
    close = difflib.get_close_matches(str(label), by_text, n=1)
    if close:
        return f"The closest of the {len(names)} known labels is {by_text[close[0]]!r}."
    if len(names) == 1:
        return f"The only known label is {names[0]!r}."
    return f"The {len(names)} known labels begin with {', '.join(map(repr, names[:5]))}."
