"""How often each label, mood and length occurs in the made corpus, and which labels go together."""

from __future__ import annotations

from mlclf.datasets._topics import Mode, Topic
from mlclf.datasets._topics_order import CANCELLATION, DELIVERY, DELIVERY_DRIVER, PACKAGING, REFUND, WRAPPING
from mlclf.datasets._topics_product import (
    PRICE,
    PRICE_OFFERS,
    QUALITY,
    QUALITY_CLOTHES,
    QUALITY_DEVICES,
    SAFETY,
    SIZING,
)
from mlclf.datasets._topics_service import PRIVACY, STAFF, WEBSITE

TOPICS: dict[str, tuple[Topic, ...]] = {
    "delivery": (DELIVERY, DELIVERY, DELIVERY_DRIVER),
    "quality": (QUALITY, QUALITY_CLOTHES, QUALITY_DEVICES),
    "staff": (STAFF,),
    "price": (PRICE, PRICE, PRICE_OFFERS),
    "website": (WEBSITE,),
    "packaging": (PACKAGING, PACKAGING, WRAPPING),
    "sizing": (SIZING,),
    "refund": (REFUND,),
    "cancellation": (CANCELLATION,),
    "safety": (SAFETY,),
    "privacy": (PRIVACY,),
}

# What a sentence is about, before the sentences of one message are tied together.
TOPIC_WEIGHTS = {
    "delivery": 24.0,
    "quality": 24.0,
    "staff": 13.0,
    "price": 13.0,
    "website": 9.0,
    "packaging": 8.0,
    "sizing": 6.0,
    "refund": 5.0,
    "cancellation": 2.5,
    "safety": 1.2,
    "privacy": 1.0,
}

# What the next sentence of a message is likely to be about.
FOLLOWS = {
    "delivery": ("packaging", "packaging", "staff", "delivery", "cancellation"),
    "quality": ("refund", "refund", "price", "sizing", "packaging"),
    "staff": ("website", "refund", "delivery"),
    "price": ("quality", "quality", "delivery", "website"),
    "website": ("staff", "price", "privacy", "cancellation"),
    "packaging": ("delivery", "quality"),
    "sizing": ("quality", "refund", "price"),
    "refund": ("staff", "staff", "cancellation", "quality"),
    "cancellation": ("refund", "refund", "staff"),
    "safety": ("quality", "refund", "staff"),
    "privacy": ("website", "staff"),
}

MOOD_WEIGHTS = {"happy": 25.0, "unhappy": 33.0, "mixed": 15.0, "asking": 15.0, "wishing": 6.0, "none": 6.0}

# Modes of the sentences of a message in each mood.
MODES: dict[str, tuple[Mode, ...]] = {
    "happy": ("good", "good", "good", "good", "good", "good", "good", "ask", "wish", "bad"),
    "unhappy": ("bad", "bad", "bad", "bad", "bad", "bad", "request", "request", "ask", "good"),
    "mixed": ("good", "good", "bad", "bad"),
    "asking": ("ask", "ask", "ask", "request", "bad", "good"),
    "wishing": ("wish", "wish", "wish", "good", "bad"),
}

# Label that a mode adds to the label of its topic.
MODE_LABELS: dict[Mode, str | None] = {
    "bad": "complaint",
    "good": "praise",
    "ask": "question",
    "wish": "suggestion",
    "request": None,
}

# How a judgement is put: a bare clause, a clause in a frame that keeps it, its opposite in a frame that denies
# it, or a few words.
STYLE_WEIGHTS = {"plain": 52.0, "kept": 14.0, "denied": 20.0, "short": 14.0}

# Chance of each addition to a message, and of a word being used again in it.
GREETING = 0.15
SAME_WORD = 0.7
DISTRACTOR = 0.2
JOIN = 0.3
GENERAL_JUDGEMENT = 0.22
RHETORICAL_QUESTION = 0.15
CLOSING = 0.2
URGENCY = {"happy": 0.02, "unhappy": 0.12, "mixed": 0.04, "asking": 0.18, "wishing": 0.01, "none": 0.0}
URGENCY_OF_SAFETY = 0.5
NO_URGENCY = 0.06

LENGTH_WEIGHTS = {1: 32.0, 2: 32.0, 3: 21.0, 4: 11.0, 5: 4.0}

CLASSES = (*TOPIC_WEIGHTS, "complaint", "praise", "question", "suggestion", "urgent")
