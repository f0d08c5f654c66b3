"""A made corpus: messages of customers to an online shop, each with any number of labels."""

from __future__ import annotations

import random

from mlclf.datasets._profile import CLASSES, TOPIC_WEIGHTS
from mlclf.datasets._surface import write_out
from mlclf.datasets._writer import Lottery, Writer
from mlclf.datasets.dataset import Dataset, LabelRow
from mlclf.exceptions import OptionsError

_STRAY = Lottery(TOPIC_WEIGHTS)


def make_feedback(n_samples: int = 2000, *, label_noise: float = 0.02, random_state: int | None = 0) -> Dataset:
    """Make messages of customers to an online shop, labelled by what they say.

    Eleven labels name a topic (``"delivery"``, ``"quality"`` ... ``"privacy"``) and five say what the writer
    wants (``"complaint"``, ``"praise"``, ``"question"``, ``"suggestion"``, ``"urgent"``). Every text is put
    together from several hundred phrases written for this purpose. What makes it hard enough to learn from
    (TF-IDF of words and word pairs with logistic regression on 2,000 rows reaches a micro-F1 of about .86):

    - Only what is said about this shop counts. "When my aunt ordered from another shop, the box was torn" has
      no label, and small talk uses the words of topics it is not about ("I drove a delivery van for ten years").
    - Clauses are denied: "nobody could claim that the driver never rang the bell" is praise.
    - Labels overlap (3.3 a row on average), go together (a broken thing with a refund) and are uneven:
      "complaint" has more than half of the rows, "safety" one in sixty. One row in seventeen has none.
    - A quarter of the texts have slips: no capitals, no full stop, swapped letters.

    Parameters
    ----------
    n_samples : int
        Number of texts. The first rows of a longer corpus are those of a shorter one.
    label_noise : float
        Each label of a text is left out with this probability, and a wrong topic is added to a text with this
        probability, as in data labelled by people.
    random_state : int or None
        Seed; None gives other texts each time.

    Returns
    -------
    Dataset
        Texts, label lists and the 16 classes.

    Raises
    ------
    OptionsError
        If ``n_samples`` is negative or ``label_noise`` is not between 0 and 1.

    Examples
    --------
    >>> from mlclf.datasets import make_feedback
    >>> data = make_feedback(3)
    >>> len(data.texts), len(data.labels), len(data.classes)
    (3, 3, 16)
    """
    if n_samples < 0:
        raise OptionsError(f"n_samples={n_samples} must be 0 or more.")
    if not 0 <= label_noise <= 1:
        raise OptionsError(f"label_noise={label_noise} must be between 0 and 1.")
    rng = random.Random(random_state)
    writer = Writer(rng)
    texts: list[str] = []
    labels: list[LabelRow] = []
    for _ in range(n_samples):
        message = writer.write()
        texts.append(write_out(message.sentences, rng))
        labels.append(_with_noise(message.labels, label_noise, rng))
    return Dataset(texts=texts, labels=labels, classes=CLASSES)


def _with_noise(labels: set[str], rate: float, rng: random.Random) -> tuple[str, ...]:
    """Return the labels in the order of the classes, some left out and perhaps a wrong one added."""
    kept = {label for label in CLASSES if label in labels and rng.random() >= rate}
    if rng.random() < rate:
        kept.add(_STRAY.draw(rng))
    return tuple(label for label in CLASSES if label in kept)
