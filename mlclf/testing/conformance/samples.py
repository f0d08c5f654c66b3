"""The texts, labels and targets that checks use."""

from __future__ import annotations

import numpy as np

from mlclf.labels import LabelSpace, Targets

# Of different lengths: one word, sentences, and one about as long as a tiny model reads.
TEXTS = [
    "cat",
    "the dog likes bread and cheese",
    "rain and snow near the harbour today",
    "a ticket",
    "we leave the old hotel without a map and take the slow train to the airport in the morning fog",
    "my friend brings soup",
    "they had a small quiet garden with a rabbit and many birds",
    "storm",
]
SHORT, LONG = 0, 4

# Texts that break code written for sentences.
DIFFICULT_TEXTS = ["", " ", "\n\t", "?!", "\U0001f600\U0001f600", "naïve café", "这只猫喜欢面包", "cat " * 400]

_NAMES = """
animals food weather travel people money health sports music books science history politics law family school
work garden fashion art film games cars phones computers religion language nature
"""


def label_names(n: int) -> tuple[str, ...]:
    """Return the names of ``n`` labels, at most 28, each one English word.

    Examples
    --------
    >>> label_names(2)
    ('animals', 'food')
    """
    return tuple(_NAMES.split()[:n])


def targets_for(names: tuple[str, ...], *, unknown: bool = False) -> Targets:
    """Return targets of :data:`TEXTS`: some with several labels, one with none, on request some cells unknown.

    Examples
    --------
    >>> targets_for(("a", "b", "c")).positives.tolist()
    [2, 2, 3]
    """
    rows, columns = np.indices((len(TEXTS), len(names)))
    cells = ((rows + 2 * columns) % 3 == 1).astype(np.float32)
    cells[len(TEXTS) // 2] = 0
    if unknown:
        cells[(rows + columns) % 4 == 0] = np.nan
    return LabelSpace(names).encode(cells)
