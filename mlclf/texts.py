"""Texts: every form of X becomes a list of str, or a clear error before anything expensive starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from mlclf.exceptions import InvalidInputError


def as_texts(X: Any) -> list[str]:
    """Return texts as a list of str.

    Parameters
    ----------
    X : iterable of str
        List, tuple, generator, pandas Series, NumPy array of shape (n_samples,) or (n_samples, 1), DataFrame with
        one column, or anything that converts to such an array. A generator is consumed. Empty texts are legal.

    Returns
    -------
    list of str, length n_samples

    Raises
    ------
    InvalidInputError
        If X is a single text, empty, has several columns, or holds anything that is not valid text; the message
        names the first such row.

    Examples
    --------
    >>> import numpy as np
    >>> as_texts(np.array([["so glad"], ["oh no"]]))
    ['so glad', 'oh no']
    """
    texts = _as_list(X)
    if not texts:
        raise InvalidInputError("X is empty. Pass at least one text.")
    for kind in set(map(type, texts)):
        if not issubclass(kind, str):
            _refuse(texts, kind)
    if any(type(text) is not str for text in texts):
        # The tokenizer wants plain str; str(text) would give "Mood.JOY" for a member of a str enumeration.
        texts = [str.__str__(text) for text in texts]
    _check_unicode(texts)
    return texts


def _as_list(X: Any) -> list[Any]:
    """Return the entries of X, one for each row."""
    if isinstance(X, (str, bytes)):
        raise InvalidInputError(f"X must be a sequence of str, got a single {type(X).__name__}. Wrap it: [text].")
    if isinstance(X, (Mapping, Set)):
        raise InvalidInputError(f"X must be a sequence of str, got a {type(X).__name__}, which has no rows in order.")
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return _only_column(X)
    if hasattr(X, "__array__") and not hasattr(X, "iloc"):
        return _flattened(np.asarray(X))
    if not isinstance(X, Iterable):
        raise InvalidInputError(f"X must be a sequence of str, got {type(X).__name__}.")
    return list(X)


def _only_column(frame: Any) -> list[Any]:
    if frame.shape[1] != 1:
        names = ", ".join(map(repr, list(frame.columns)[:5]))
        raise InvalidInputError(
            f"X as a DataFrame must have one column, got {frame.shape[1]}"
            f"{f' ({names})' if names else ''}. Pass the column with the texts: X['text']."
        )
    return list(frame.iloc[:, 0])


def _flattened(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InvalidInputError(
            f"X as an array must have shape (n_samples,) or (n_samples, 1), got {array.shape}. "
            "Pass the column with the texts."
        )
    entries: list[Any] = array.tolist()
    return entries


def _refuse(texts: list[Any], kind: type) -> None:
    """Raise for the first entry of a type that is no text."""
    row = next(number for number, text in enumerate(texts) if type(text) is kind)
    value = texts[row]
    if isinstance(value, (bytes, bytearray)):
        hint = "Decode it: text.decode('utf-8')."
    elif isinstance(value, (list, tuple)):
        hint = "Each row is one text: join its parts, or pass the column with the texts."
    elif isinstance(value, (int, float, np.number)) and value == value:
        hint = "Convert it: str(value)."
    else:
        hint = "Drop the row, or write '' for a text that is empty."
    raise InvalidInputError(f"X must hold str only, got {_short(value)} of type {kind.__name__} in row {row}. {hint}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def _check_unicode(texts: list[str]) -> None:
    """Refuse half surrogate pairs, on which tokenizers fail without saying where."""
    for row, text in enumerate(texts):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InvalidInputError(
                    f"X has half a surrogate pair in row {row}, position {error.start}, which is not valid text. "
                    "Clean it: text.encode('utf-8', 'replace').decode()."
                ) from error
