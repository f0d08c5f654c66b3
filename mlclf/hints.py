"""Hints in error messages: the known name closest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return ``" Did you mean 'x'?"``, with a space before it, or nothing where no known name is close.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable of object
        What could have been meant.

    Returns
    -------
    str

    Examples
    --------
    >>> did_you_mean("lorra", ["lora", "full"])
    " Did you mean 'lora'?"
    >>> did_you_mean("xyz", ["lora", "full"])
    ''
    """
    by_text = {str(entry): entry for entry in known}
    close = get_close_matches(str(name), by_text, n=1)
    return f" Did you mean {by_text[close[0]]!r}?" if close else ""
