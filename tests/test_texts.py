"""Every form of X becomes a list of str; everything else is refused with its row and a way out."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlclf.exceptions import InvalidInputError
from mlclf.texts import as_texts

TEXTS = ["so glad", "", "oh nö 🎉"]


class OnlyArray:
    """An object that can do nothing but become an array."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.values, dtype=dtype)


class Mood(StrEnum):
    JOY = "joy"


@pytest.mark.parametrize(
    "X",
    [
        TEXTS,
        tuple(TEXTS),
        (text for text in TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS).reshape(-1, 1),
        pd.Series(TEXTS, index=[7, 8, 9]),
        pd.Series(TEXTS, dtype="string"),
        pd.Series(TEXTS, dtype=object),
        pd.Series(TEXTS, dtype="category"),
        pd.DataFrame({"text": TEXTS}),
        pd.Index(TEXTS),
        OnlyArray(TEXTS),
    ],
    ids=lambda X: type(X).__name__,
)
def test_every_sequence_of_texts_becomes_a_list(X: Any) -> None:
    texts = as_texts(X)
    assert texts == TEXTS
    assert {type(text) for text in texts} == {str}


def test_members_of_a_str_enumeration_give_their_value() -> None:
    assert as_texts([Mood.JOY]) == ["joy"]
    assert type(as_texts([Mood.JOY])[0]) is str


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("so glad", r"X must be a sequence of str, got a single str\. Wrap it: \[text\]\."),
        (b"so glad", r"got a single bytes"),
        ({"so glad"}, r"got a set, which has no rows in order"),
        ({"text": ["so glad"]}, r"got a dict"),
        (7, r"X must be a sequence of str, got int"),
        (None, r"X must be a sequence of str, got NoneType"),
        ([], r"X is empty\. Pass at least one text\."),
        (np.array([], dtype=str), r"X is empty"),
        (["a", None], r"got None of type NoneType in row 1\. Drop the row, or write ''"),
        (["a", "b", float("nan")], r"got nan of type float in row 2\. Drop the row"),
        (pd.Series(["a", None], dtype="string"), r"of type (NAType|float) in row 1\. Drop the row"),
        (pd.Series(["a", None]), r"in row 1\. Drop the row"),
        ([b"a"], r"got b'a' of type bytes in row 0\. Decode it"),
        (np.array([b"a"]), r"of type bytes in row 0"),
        (["a", 3], r"got 3 of type int in row 1\. Convert it: str\(value\)"),
        (np.array([1.5, 2.5]), r"got 1\.5 of type float in row 0\. Convert it"),
        ([["a"], ["b"]], r"got \['a'\] of type list in row 0\. Each row is one text"),
        ([("a", "b")], r"of type tuple in row 0"),
        (["a", ["x" * 500]], r"got \['x{58}\.\.\. of type list in row 1"),
        (pd.DataFrame({"id": [1], "text": ["a"]}), r"must have one column, got 2 \('id', 'text'\)"),
        (pd.DataFrame(index=[0, 1]), r"must have one column, got 0\."),
        (np.array([["a", "b"]]), r"shape \(n_samples,\) or \(n_samples, 1\), got \(1, 2\)"),
        (np.array("a"), r"got \(\)"),
        (["fine", "caf\udce9"], r"half a surrogate pair in row 1, position 3"),
    ],
)
def test_what_is_no_text_is_refused_by_row_and_with_a_way_out(X: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        as_texts(X)


@given(st.lists(st.text(), min_size=1))
def test_texts_come_back_unchanged(texts: list[str]) -> None:
    assert as_texts(texts) == texts
    assert as_texts(pd.Series(texts, dtype=object)) == texts
    assert as_texts(np.array(texts, dtype=object)[:, None]) == texts
