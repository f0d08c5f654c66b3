"""The made corpus: its size and shape, what its labels mean, and that it can be learned but not by heart."""

from __future__ import annotations

import re
import time
from collections import Counter

import numpy as np
import pytest

from mlclf.datasets import Dataset, make_feedback
from mlclf.exceptions import OptionsError


@pytest.fixture(scope="module")
def corpus() -> Dataset:
    return make_feedback(12_000)


@pytest.fixture(scope="module")
def clean() -> Dataset:
    return make_feedback(12_000, label_noise=0.0)


def rows_matching(data: Dataset, pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    """Texts (whole) that match, with their labels."""
    return [(t, y) for t, y in zip(data.texts, data.labels, strict=True) if re.fullmatch(pattern, t, re.IGNORECASE)]


def test_same_seed_gives_same_corpus() -> None:
    assert make_feedback(50, random_state=3) == make_feedback(50, random_state=3)
    assert make_feedback(50, random_state=3).texts != make_feedback(50, random_state=4).texts


def test_shorter_corpus_is_the_beginning_of_a_longer_one() -> None:
    assert make_feedback(80).take(range(30)) == make_feedback(30)


def test_first_texts_never_change() -> None:
    # Figures measured on the corpus are comparable between versions only as long as this holds.
    assert make_feedback(2).texts == [
        "Is it normal that the hairdryer hums?",
        "The electric blanket is now in the hall. My uncle once told me about a seller abroad, where the assistant "
        "who took my call was rude to my nephew. When my brother ordered from a seller abroad, the bill went up "
        "between the basket and the till.",
    ]


def test_no_seed_gives_other_texts_each_time() -> None:
    assert make_feedback(20, random_state=None).texts != make_feedback(20, random_state=None).texts


def test_texts_hardly_repeat(corpus: Dataset) -> None:
    assert len(set(corpus.texts)) > 0.97 * len(corpus)


def test_texts_have_3_to_80_words(corpus: Dataset) -> None:
    lengths = [len(text.split()) for text in corpus.texts]
    assert min(lengths) == 3
    assert 75 <= max(lengths) <= 80
    assert 20 < np.median(lengths) < 40


def test_no_slot_is_left_open(corpus: Dataset) -> None:
    assert not [text for text in corpus.texts if "{" in text or "}" in text or "  " in text]


def test_labels_are_those_of_the_classes_in_their_order(corpus: Dataset) -> None:
    place = {label: number for number, label in enumerate(corpus.classes)}
    assert len(corpus.classes) == 16
    assert all([place[label] for label in row] == sorted(place[label] for label in row) for row in corpus.labels)


def test_frequencies_are_uneven_with_rare_labels_and_empty_rows(corpus: Dataset) -> None:
    counts = Counter(label for row in corpus.labels for label in row)
    assert set(counts) == set(corpus.classes)
    assert 0.5 < counts["complaint"] / len(corpus) < 0.62
    assert 0.01 < counts["safety"] / len(corpus) < 0.025
    assert 0.04 < sum(not row for row in corpus.labels) / len(corpus) < 0.08


def test_labels_go_together(corpus: Dataset) -> None:
    rows = [set(row) for row in corpus.labels]
    refund = [row for row in rows if "refund" in row]
    share = sum("quality" in row for row in refund) / len(refund)
    assert share > 1.15 * sum("quality" in row for row in rows) / len(rows)


def test_denied_clauses_mean_the_opposite(clean: Dataset) -> None:
    praised = rows_matching(clean, r"It would be unfair to say that [^.!]*[.!]?")
    assert len(praised) > 3
    assert all("praise" in labels and "complaint" not in labels for _, labels in praised)


def test_what_is_said_of_another_shop_has_no_label(clean: Dataset) -> None:
    elsewhere = rows_matching(clean, r"The last time I bought from [^.!?]*[.!]?")
    assert len(elsewhere) > 3
    assert all(labels == () for _, labels in elsewhere)


def test_label_noise_changes_as_many_labels_as_it_says() -> None:
    clean, noisy = make_feedback(1, label_noise=0.0), make_feedback(1, label_noise=1.0)
    assert clean.labels[0]
    assert len(noisy.labels[0]) == 1


def test_ten_thousand_texts_take_about_a_second() -> None:
    started = time.process_time()
    make_feedback(10_000)
    assert time.process_time() - started < 3


def test_words_alone_do_not_solve_it(corpus: Dataset) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    Y = MultiLabelBinarizer(classes=list(corpus.classes)).fit_transform(corpus.labels)
    X = TfidfVectorizer(min_df=2, sublinear_tf=True).fit_transform(corpus.texts)
    model = OneVsRestClassifier(LogisticRegression(C=10, max_iter=500)).fit(X[:1500], Y[:1500])
    assert 0.75 < f1_score(Y[10_000:], model.predict_proba(X[10_000:]) > 0.3, average="micro") < 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n_samples": -1}, "n_samples=-1 must be 0 or more"), ({"label_noise": 1.5}, "label_noise=1.5 must be between")],
)
def test_impossible_sizes_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        make_feedback(**arguments)  # type: ignore[arg-type]


def test_nothing_makes_an_empty_corpus() -> None:
    assert len(make_feedback(0)) == 0
