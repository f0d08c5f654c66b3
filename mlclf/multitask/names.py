"""Names of tasks: what may be one, and which one is meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.hints import did_you_mean

_LONGEST = 100


def checked_name(name: object, taken: Collection[str]) -> str:
    """Return the name of a new task.

    Parameters
    ----------
    name : object
        What was given. Any short, printable text will do: it is never used as the name of a file.
    taken : collection of str
        Names that there are.

    Raises
    ------
    OptionsError
        If it is no such text, or taken.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise OptionsError(f"The name of a task must be printable text of 1 to {_LONGEST} characters, got {name!r}.")
    if name in taken:
        raise OptionsError(f"There is a task {name!r} already. Remove it with remove_task({name!r}), or rename it.")
    return name


def known_task(name: object, known: Collection[str]) -> str:
    """Return the name of a task that there is.

    Raises
    ------
    InvalidInputError
        If there is none of that name.
    """
    if not isinstance(name, str) or name not in known:
        there = ", ".join(map(repr, known)) or "none yet: call add_task(name, X, Y)"
        raise InvalidInputError(f"There is no task {name!r}.{did_you_mean(name, known)} Tasks: {there}.")
    return name


def task_columns(tasks: Sequence[str], known: Collection[str], n_samples: int) -> NDArray[np.int64]:
    """Return the number of each text's task, shape (n_samples,).

    Raises
    ------
    InvalidInputError
        If there is not one known task for each text.
    """
    names = list(tasks)
    if len(names) != n_samples:
        raise InvalidInputError(
            f"task must name one task for each of the {n_samples} texts, got {len(names)}. "
            "Give one name (str) for all of them."
        )
    numbers = {name: number for number, name in enumerate(known)}
    return np.array([numbers[known_task(name, known)] for name in names], dtype=np.int64)
