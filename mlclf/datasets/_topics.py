"""The form in which the phrases of the made corpus are written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Judgement = Literal["bad", "good"]
Mode = Literal["bad", "good", "ask", "wish", "request"]


def lines(block: str) -> tuple[str, ...]:
    """Return the non-empty lines of a text block, stripped: one phrase a line."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())


@dataclass(frozen=True)
class Topic:
    """What customers say about one kind of thing; several topics may share a label.

    A phrase may hold slots (``{item}``), filled from the word lists in ``_words.py``.

    Parameters
    ----------
    label : str
        Label of every sentence made from the topic.
    subjects : tuple of str
        Openings, each of which goes with every line of ``bad`` and ``good``.
    bad, good : tuple of str
        Predicates; with a subject they make a complaint or praise.
    ask : tuple of str
        Whole questions.
    wish : tuple of str
        Whole suggestions.
    request : tuple of str
        Whole sentences that name the topic and neither judge nor ask.
    short_bad, short_good : tuple of str
        Judgements of a few words.
    """

    label: str
    subjects: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    wish: tuple[str, ...] = ()
    request: tuple[str, ...] = ()
    short_bad: tuple[str, ...] = ()
    short_good: tuple[str, ...] = ()

    def predicates(self, judgement: Judgement) -> tuple[str, ...]:
        """Return the predicates of one judgement."""
        return self.bad if judgement == "bad" else self.good

    def short(self, judgement: Judgement) -> tuple[str, ...]:
        """Return the short forms of one judgement."""
        return self.short_bad if judgement == "bad" else self.short_good

    def sentences(self, mode: Mode) -> tuple[str, ...]:
        """Return the whole sentences of a mode; none for judgements, which are put together."""
        return {"ask": self.ask, "wish": self.wish, "request": self.request}.get(mode, ())
