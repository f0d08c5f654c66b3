"""From sentences to the text of a message: capitals, full stops, and the slips of people who type."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_FILLER = "just saying"
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


def write_out(sentences: Sequence[str], rng: random.Random) -> str:
    """Return the sentences as one text of at least 3 words.

    Parameters
    ----------
    sentences : sequence of str
        Sentences without capitals and full stops.
    rng : random.Random
        Source of the slips.

    Returns
    -------
    str
    """
    text = " ".join(_punctuated(sentence, rng) for sentence in sentences)
    if text.count(" ") < 2:
        text = f"{text} {_FILLER.capitalize()}."
    return _with_slips(_ARTICLE.sub(r"\1n ", text), rng)


def _punctuated(sentence: str, rng: random.Random) -> str:
    start = sentence[0].upper() + sentence[1:]
    if start[-1] in "?!.":
        return start
    return start + ("!" if rng.random() < 0.06 else ".")


def _with_slips(text: str, rng: random.Random) -> str:
    """Return the text as it is (three times out of four), or with one of the usual slips."""
    draw = rng.random()
    if draw < 0.08:
        return text.lower()
    if draw < 0.14:
        return text.rstrip(".")
    if draw < 0.17:
        return text.replace(".", "!!")
    if draw < 0.25:
        return _swapped(text, 1 + int(rng.random() * (len(text) - 2)))
    return text


def _swapped(text: str, place: int) -> str:
    """Return the text with two neighbouring letters swapped; unchanged where the place is between words."""
    pair = text[place : place + 2]
    return text[:place] + pair[::-1] + text[place + 2 :] if pair.isalpha() else text
