"""Writes one customer message and the labels that belong to it."""

from __future__ import annotations

import random
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, TypeVar

from mlclf.datasets import _frames as frames
from mlclf.datasets import _profile as profile
from mlclf.datasets._topics import Judgement, Mode, Topic
from mlclf.datasets._words import SLOTS

_T = TypeVar("_T")
_MAX_WORDS = 80
_SLOT = re.compile(r"\{(\w+)\}")
_OPPOSITE: dict[Judgement, Judgement] = {"bad": "good", "good": "bad"}
_DENY = {"bad": frames.DENY_BAD, "good": frames.DENY_GOOD}
_GENERAL = {"unhappy": (frames.COMPLAINT, "complaint"), "happy": (frames.PRAISE, "praise")}


class Lottery(Generic[_T]):
    """Draws values with a probability proportional to their weights."""

    def __init__(self, weights: Mapping[_T, float]) -> None:
        self._values = tuple(weights)
        self._bounds = list(accumulate(weights.values()))

    def draw(self, rng: random.Random) -> _T:
        """Draw one value."""
        return self._values[bisect(self._bounds, rng.random() * self._bounds[-1])]


_TOPIC = Lottery(profile.TOPIC_WEIGHTS)
_MOOD = Lottery(profile.MOOD_WEIGHTS)
_LENGTH = Lottery(profile.LENGTH_WEIGHTS)
_STYLE = Lottery(profile.STYLE_WEIGHTS)


@dataclass
class Message:
    """Sentences, without capitals and full stops, and what they say."""

    sentences: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    last_clause: Judgement | None = None

    def say(self, sentence: str, *labels: str) -> None:
        """Append a sentence and the labels that follow from it, if it is new and there is room."""
        if sentence not in self.sentences and self._has_room(sentence):
            self.sentences.append(sentence)
            self.labels.update(labels)
            self.last_clause = None

    def tie(self, joint: str, clause: str, *labels: str) -> None:
        """Append a clause to the last sentence, if there is room."""
        if self._has_room(joint + clause):
            self.sentences[-1] += joint + clause
            self.labels.update(labels)

    def _has_room(self, words: str) -> bool:
        return sum(len(text.split()) for text in (*self.sentences, words)) <= _MAX_WORDS


class Writer:
    """Writes messages; the same state of the generator gives the same messages.

    Parameters
    ----------
    rng : random.Random
        Source of every choice.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._mentioned: dict[str, str] = {}

    def write(self) -> Message:
        """Write one message."""
        self._mentioned.clear()
        message = Message()
        mood = _MOOD.draw(self._rng)
        if self.chance(profile.GREETING):
            message.say(self._phrase(frames.GREETINGS))
        if mood == "none":
            for _ in range(_LENGTH.draw(self._rng)):
                message.say(self._distractor())
        else:
            self._topics(message, mood)
        self._ending(message, mood)
        return message

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._rng.random() < probability

    def pick(self, values: Sequence[_T]) -> _T:
        """Return one of the values."""
        return values[int(self._rng.random() * len(values))]

    def _phrase(self, phrases: Sequence[str]) -> str:
        return self._fill(self.pick(phrases))

    def _fill(self, phrase: str) -> str:
        if "{" not in phrase:
            return phrase
        return _SLOT.sub(lambda slot: self._word(slot[1]), phrase)

    def _word(self, slot: str) -> str:
        """Return a word for a slot, often the one that the message has used before."""
        if slot not in self._mentioned or not self.chance(profile.SAME_WORD):
            self._mentioned[slot] = self.pick(SLOTS[slot])
        return self._mentioned[slot]

    def _framed(self, frame: str, clause: str) -> str:
        """Put a clause into a frame and fill the slots of both."""
        return self._fill(frame.replace("{clause}", clause))

    def _clause(self, topic: Topic, judgement: Judgement) -> str:
        return f"{self.pick(topic.subjects)} {self.pick(topic.predicates(judgement))}"

    def _topics(self, message: Message, mood: str) -> None:
        label = _TOPIC.draw(self._rng)
        for _ in range(_LENGTH.draw(self._rng)):
            if self.chance(profile.DISTRACTOR):
                message.say(self._distractor())
            self._topic(message, label, self.pick(profile.MODES[mood]))
            label = self.pick(profile.FOLLOWS[label]) if self.chance(0.4) else _TOPIC.draw(self._rng)

    def _topic(self, message: Message, label: str, mode: Mode) -> None:
        """Judge a topic, or ask, suggest or request something; judge it where the topic has no other phrases."""
        topics = profile.TOPICS[label]
        sentences = topics[0].sentences(mode)
        if sentences:
            extra = profile.MODE_LABELS[mode]
            message.say(self._phrase(sentences), label, *([extra] if extra else []))
        else:
            self._judge(message, self.pick(topics), "good" if mode == "good" else "bad")

    def _judge(self, message: Message, topic: Topic, judgement: Judgement) -> None:
        labels = (topic.label, "complaint" if judgement == "bad" else "praise")
        style = _STYLE.draw(self._rng)
        opposite = _OPPOSITE[judgement]
        if not topic.predicates(judgement) or (style == "denied" and topic.predicates(opposite)):
            message.say(self._framed(self.pick(_DENY[opposite]), self._clause(topic, opposite)), *labels)
        elif style == "short" and topic.short(judgement):
            message.say(self._phrase(topic.short(judgement)), *labels)
        elif style == "kept":
            message.say(self._framed(self.pick(frames.KEEP), self._clause(topic, judgement)), *labels)
        else:
            self._plain(message, self._fill(self._clause(topic, judgement)), judgement, labels)

    def _plain(self, message: Message, clause: str, judgement: Judgement, labels: tuple[str, ...]) -> None:
        """Say a bare clause, sometimes tied to the bare clause before it."""
        before = message.last_clause
        if before is not None and self.chance(profile.JOIN):
            message.tie(self.pick(frames.JOIN_SAME if before == judgement else frames.JOIN_OTHER), clause, *labels)
        else:
            message.say(clause, *labels)
            message.last_clause = judgement

    def _distractor(self) -> str:
        """Return a sentence without a label: small talk, or a judgement of somebody else."""
        if self.chance(0.6):
            return self._phrase(frames.SMALL_TALK)
        topic = self.pick(profile.TOPICS[_TOPIC.draw(self._rng)])
        judgement: Judgement = "bad" if self.chance(0.6) or not topic.good else "good"
        clause = self._clause(topic, judgement).replace("your ", "their ").replace("you ", "they ")
        return self._framed(self.pick(frames.ELSEWHERE), clause)

    def _ending(self, message: Message, mood: str) -> None:
        if mood in _GENERAL and self.chance(profile.GENERAL_JUDGEMENT):
            phrases, label = _GENERAL[mood]
            message.say(self._phrase(phrases), label)
        if mood == "unhappy" and self.chance(profile.RHETORICAL_QUESTION):
            message.say(self._phrase(frames.RHETORICAL), "complaint")
        if self.chance(profile.URGENCY_OF_SAFETY if "safety" in message.labels else profile.URGENCY[mood]):
            message.say(self._phrase(frames.URGENT), "urgent")
        elif self.chance(profile.NO_URGENCY):
            message.say(self._phrase(frames.NOT_URGENT))
        if self.chance(profile.CLOSING):
            message.say(self._phrase(frames.CLOSINGS))
