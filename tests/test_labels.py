"""Every form of Y becomes the same targets; everything else is refused with its place and a way out."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlclf.exceptions import InvalidInputError, UnknownLabelError
from mlclf.labels import LabelSpace, Targets, YFormat, check_trainable, to_indicator, y_format

NAMES = ("anger", "fear", "joy")
ROWS = [["joy"], [], ["fear", "anger"], ["joy", "fear"]]
INDICATOR = np.array([[0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 1]])
SPACE = LabelSpace(NAMES)


class OnlyArray:
    """An object that can do nothing but become an array."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.values, dtype=dtype)


class Mood(StrEnum):
    JOY = "joy"
    FEAR = "fear"


def object_array(rows: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def frame(**options: Any) -> pd.DataFrame:
    return pd.DataFrame(INDICATOR, columns=list(NAMES)).astype(options or "int64")


def cells(targets: Targets) -> list[list[int]]:
    """The targets as 1, 0 and -1 where not known, checking the promises that others build on."""
    indicator, unknown = targets.indicator, targets.unknown
    assert indicator.format == "csr"
    assert indicator.dtype == np.int8
    assert indicator.has_sorted_indices
    assert (indicator.data == 1).all()
    dense = indicator.toarray().astype(int)
    if unknown is not None:
        assert unknown.dtype == np.bool_
        assert unknown.nnz > 0
        assert not indicator.multiply(unknown).nnz
        dense -= unknown.toarray()
    return dense.tolist()


LABEL_ROWS: dict[str, Any] = {
    "lists": ROWS,
    "tuples": [tuple(row) for row in ROWS],
    "tuple of lists": tuple(ROWS),
    "sets": [set(row) for row in ROWS],
    "frozensets": [frozenset(row) for row in ROWS],
    "mixed collections": [["joy"], (), {"fear", "anger"}, np.array(["joy", "fear"])],
    "arrays": [np.array(row, dtype=object) for row in ROWS],
    "repeated names": [["joy", "joy"], [], ["fear", "anger", "fear"], ["joy", "fear"]],
    "object array": object_array(ROWS),
    "Series": pd.Series(ROWS, index=[5, 6, 7, 8]),
    "Series of sets": pd.Series([set(row) for row in ROWS]),
    "only __array__": OnlyArray(object_array(ROWS)),
    "NumPy strings": [[np.str_(name) for name in row] for row in ROWS],
    "dicts": [{"joy": True}, {}, {"fear": 1, "anger": np.True_}, {"joy": True, "fear": True, "anger": False}],
    "Series of dicts": pd.Series([dict.fromkeys(row, True) for row in ROWS]),
}
MATRICES: dict[str, Any] = {
    "int array": INDICATOR,
    "uint8 array": INDICATOR.astype(np.uint8),
    "bool array": INDICATOR.astype(bool),
    "float array": INDICATOR.astype(np.float32),
    "object array": INDICATOR.astype(object),
    "Fortran order": np.asfortranarray(INDICATOR),
    "only __array__": OnlyArray(INDICATOR),
    "masked array without gaps": np.ma.masked_array(INDICATOR),
    "csr_array": sp.csr_array(INDICATOR),
    "csc_array": sp.csc_array(INDICATOR),
    "csr_matrix": sp.csr_matrix(INDICATOR),
    "csc_matrix": sp.csc_matrix(INDICATOR),
    "coo_array of bool": sp.coo_array(INDICATOR.astype(bool)),
}
FRAMES: dict[str, Any] = {
    "int": frame(),
    "bool": frame(anger="bool", fear="bool", joy="bool"),
    "bool beside int": frame(anger="bool"),
    "float": frame(anger="float64", fear="float32"),
    "nullable": frame(anger="Int64", fear="boolean", joy="Float64"),
    "object": frame(anger="object"),
    "sparse": frame(anger="Sparse[int]", fear="Sparse[int]", joy="Sparse[int]"),
    "sparse bool": frame().astype(pd.SparseDtype(bool, False)),
    "sparse beside dense": frame(anger="Sparse[int]"),
    "sparse with NaN left out": frame().astype(pd.SparseDtype(float, np.nan)),
}


@pytest.mark.parametrize("form", LABEL_ROWS)
def test_rows_of_names_give_sorted_labels_and_targets(form: str) -> None:
    Y = LABEL_ROWS[form]
    space = LabelSpace.infer(Y)
    assert space.names == NAMES
    assert {type(name) for name in space.names} == {str}
    assert cells(space.encode(Y, n_samples=4)) == INDICATOR.tolist()
    assert y_format(Y) == YFormat("rows", "int8")


@pytest.mark.parametrize("form", MATRICES)
def test_matrices_give_numbered_labels_and_targets(form: str) -> None:
    Y = MATRICES[form]
    assert LabelSpace.infer(Y).names == (0, 1, 2)
    assert cells(LabelSpace.infer(Y).encode(Y, n_samples=4)) == INDICATOR.tolist()
    assert cells(LabelSpace.infer(Y, classes=NAMES).encode(Y)) == INDICATOR.tolist()


@pytest.mark.parametrize("form", FRAMES)
def test_frames_give_their_columns_and_targets(form: str) -> None:
    Y = FRAMES[form][["joy", "anger", "fear"]]
    assert LabelSpace.infer(Y).names == ("joy", "anger", "fear")
    assert cells(LabelSpace.infer(Y).encode(Y)) == INDICATOR[:, [2, 0, 1]].tolist()


def test_frame_columns_are_matched_by_name() -> None:
    assert cells(SPACE.encode(frame()[["joy", "fear", "anger"]])) == INDICATOR.tolist()


def test_sparse_matrix_of_the_caller_stays_as_it_was() -> None:
    Y = sp.csr_array((np.array([1, 1, 0]), np.array([2, 0, 1]), np.array([0, 3])), shape=(1, 3))
    assert cells(LabelSpace.infer(Y).encode(Y)) == [[1, 0, 1]]
    assert Y.indices.tolist() == [2, 0, 1]


GAPS = [[1, -1, 0], [-1, 0, 1]]


@pytest.mark.parametrize(
    "Y",
    [
        np.array(GAPS),
        np.array([[1, np.nan, 0], [np.nan, 0, 1]]),
        np.array([[1, None, 0], [None, False, True]], dtype=object),
        np.ma.masked_array([[1, 1, 0], [0, 0, 1]], mask=[[0, 1, 0], [1, 0, 0]]),
        sp.csr_array(np.array(GAPS)),
        sp.csr_array(np.array([[1, np.nan, 0], [np.nan, 0, 1]])),
        pd.DataFrame(GAPS),
        pd.DataFrame([[1, None, 0], [None, 0, 1]]),
        pd.DataFrame([[True, None, False], [None, False, True]]),
        pd.DataFrame([[1, pd.NA, 0], [pd.NA, 0, 1]]).astype("Int64"),
        pd.DataFrame([[1, pd.NA, 0], [pd.NA, 0, 1]]).astype("boolean"),
        pd.DataFrame([[1, pd.NA, 0], [pd.NA, 0, 1]], dtype=object),
        pd.DataFrame([[1, np.nan, 0], [np.nan, 0, 1]]).astype(pd.SparseDtype(float, np.nan)),
        pd.DataFrame(GAPS).astype(pd.SparseDtype(int, 0)),
        [{0: True, 1: None}, {0: None, 2: True, 1: False}],
        [{0: 1, 1: float("nan")}, {0: pd.NA, 2: 1.0}],
        [{0: np.int64(1), 1: -1}, {0: np.float32("nan"), 2: np.True_}],
    ],
)
def test_cells_that_nobody_knows_are_marked(Y: Any) -> None:
    targets = LabelSpace.infer(Y).encode(Y)
    assert cells(targets) == GAPS
    assert targets.positives.tolist() == [1, 0, 1]
    assert targets.known_counts.tolist() == [1, 1, 2]
    dense, known = targets.dense(np.array([1, 0, 1]))
    assert dense.dtype == np.float32
    assert dense.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert known is not None
    assert known.tolist() == [[False, True, True], [True, False, True], [False, True, True]]


def test_a_matrix_without_gaps_has_no_mask() -> None:
    targets = SPACE.encode(INDICATOR.astype(float))
    assert targets.unknown is None
    assert targets.dense(np.array([2]))[1] is None
    assert targets.known_counts.tolist() == [4, 4, 4]


def test_whole_numbers_come_before_text_and_enumerations_give_their_value() -> None:
    assert LabelSpace.infer([["b", 10], [np.int64(9), "a"]]).names == (9, 10, "a", "b")
    assert LabelSpace.infer([[Mood.JOY], [Mood.FEAR]]).names == ("fear", "joy")
    assert cells(SPACE.encode([[Mood.JOY]])) == [[0, 0, 1]]


def test_classes_fix_the_column_order_in_any_form() -> None:
    order = ["joy", "surprise", "anger", "fear"]
    space = LabelSpace.infer(ROWS, classes=order)
    assert space.names == tuple(order)
    assert cells(space.encode(ROWS)) == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]]
    assert LabelSpace.infer(ROWS, classes=np.array(order)) == LabelSpace.infer(ROWS, classes=iter(order)) == space


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (
            ["joy", "fear"],
            r"Row 0 of Y must be a collection of labels, got 'joy': Y is a single-label column.*\[\[label\]",
        ),
        (np.array(["joy", "fear"]), r"single-label column"),
        (pd.Series(["joy", "fear"]), r"single-label column"),
        (np.array([0, 1, 1]), r"single-label column"),
        ("joy", r"Y must hold the labels of many texts, got a single str"),
        ({"joy": [1, 0]}, r"got a single dict"),
        ({"joy"}, r"Y is a set, which has no order"),
        (None, r"got NoneType"),
        ((row for row in ROWS), r"got generator.*make it a list"),
        ([], r"Y is empty"),
        (np.zeros((0, 3)), r"Y is empty: its shape is \(0, 3\)"),
        (np.zeros((3, 0)), r"Y is empty: its shape is \(3, 0\)"),
        (pd.DataFrame(index=[0, 1]), r"Y is empty: its shape is \(2, 0\)"),
        (sp.csr_array((0, 3)), r"Y is empty"),
        ([["joy"], None], r"Row 1 of Y is None\. Write \[\] where no label applies"),
        (pd.Series([["joy"], np.nan]), r"Row 1 of Y is nan\. Write \[\]"),
        ([["joy"], {"joy": True}], r"Row 1 of Y is a dict and others are not"),
        ([["joy"], object()], r"Row 1 of Y must be a list, tuple or set of labels, got object"),
        ([["joy"], np.array([["fear"]])], r"Row 1 of Y must be a 1-D array of labels, got shape \(1, 1\)"),
        ([["joy"], ["fear", None]], r"Row 1 of Y holds None of type NoneType; label names must be str or int"),
        ([["joy"], [1.5]], r"Row 1 of Y holds 1\.5 of type float.*np\.asarray"),
        ([[], ["joy", b"fear"]], r"Row 1 of Y holds b'fear' of type bytes"),
        ([["joy"], [["fear"]]], r"Row 1 of Y holds \['fear'\] of type list"),
        ([["joy"], [""]], r"Row 1 of Y holds the empty label name ''.*Write \[\]"),
        ([[True, False], [False, True]], r"Row 0 of Y holds True of type bool.*np\.asarray"),
        ([[0, 1, 0], [1, 0, 0]], r"nested list whose 2 rows have 3 entries 0 or 1 each.*np\.asarray\(Y\)"),
        ([(0, 1), (1, 0)], r"nested list.*\[set\(row\) for row in Y\]"),
        ([[1, -1, 0, 0], [0, 1, 1, 0]], r"nested list"),
        ([[], []], r"No label occurs in the 2 rows of Y\. Name the labels that may occur with classes="),
        ([{}, {}], r"No label occurs"),
        ([{"joy": "yes"}], r"Row 0 of Y says 'yes' of label 'joy'; allowed are True"),
        ([{}, {"joy": [1]}], r"Row 1 of Y says \[1\] of label 'joy'"),
        ([{"joy": 0.5}], r"Row 0 of Y says 0\.5"),
        (np.array([["joy", "fear"]]), r"got the text 'joy'\. For label names pass one list a row"),
        (np.array([["joy", "fear"]], dtype=object), r"got the text 'joy'"),
        (pd.DataFrame({"joy": ["yes", "no"]}), r"got the text 'yes'"),
        (pd.DataFrame({"labels": [["joy"], []]}), r"got \['joy'\]. For rows of label names pass the column alone"),
        (np.array([[0, 1], [2, 0]]), r"Y must hold 0, 1 and, where not known, NaN or -1; got 2 in row 1, column 0"),
        (np.array([[0, 0.5]]), r"got 0\.5 in row 0, column 1.*\(Y > 0\.5\)\.astype\(int\)"),
        (np.array([[0, np.inf]]), r"got inf in row 0, column 1"),
        (np.array([[1j, 0]]), r"Y must hold 0, 1"),
        (sp.csr_array(np.array([[0, 1], [0, 3]])), r"got 3 in row 1, column 1"),
        (sp.coo_array(([1, 1], ([0, 0], [1, 1])), shape=(1, 2)), r"got 2 in row 0, column 1"),
        (sp.coo_array(np.array([1, 0])), r"sparse matrix must be 2-D"),
        (pd.DataFrame([[0, 7]], columns=["a", "b"]), r"got 7 in row 0, column 1"),
        (np.zeros((2, 3, 1)), r"must be 2-D \(n_samples, n_labels\), got shape \(2, 3, 1\)"),
        (pd.DataFrame([[0, 1]], columns=["joy", "joy"]), r"Label 'joy' occurs twice"),
        (pd.DataFrame([[0, 1]], columns=["joy", 1.5]), r"Column 1\.5 of Y has a name of type float"),
        (pd.DataFrame([[0, 1]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])), r"name of type tuple"),
    ],
)
def test_what_is_no_set_of_labels_is_refused_with_place_and_way_out(Y: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        LabelSpace.infer(Y)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("joy", r"classes must be a sequence of labels, got a single str"),
        ([], r"There must be at least one label"),
        (["joy", "fear", "joy"], r"Label 'joy' occurs twice"),
        (["joy", None], r"must be an int or a str that is not empty, got None"),
        (["joy", ""], r"that is not empty, got ''"),
        ([True, False], r"got True"),
        ([1, "1"], r"Labels 1 and '1' read alike"),
    ],
)
def test_classes_must_be_names_each_once(classes: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        LabelSpace.infer(ROWS, classes=classes)


def test_rows_that_could_only_be_label_ids_are_taken_as_such() -> None:
    assert LabelSpace.infer([[0], [1], [0, 1]]).names == (0, 1)
    assert LabelSpace.infer([{0, 1}, {1, 0}]).names == (0, 1)
    assert cells(LabelSpace((0, 1, 2)).encode([[0, 1], [1, 0]])) == [[1, 1, 0], [1, 1, 0]]
    with pytest.raises(InvalidInputError, match="nested list"):
        LabelSpace((0, 1)).encode([[0, 1]])


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (
            [["joy"], ["feer"]],
            r"Label 'feer' \(row 1 of Y\) is not known\. The closest of the 3 known labels is 'fear'\.",
        ),
        (
            [["joy"], [12]],
            r"Label 12 \(row 1 of Y\) is not known\. The 3 known labels begin with 'anger', 'fear', 'joy'\.",
        ),
        ([{"jov": False}], r"Label 'jov' \(row 0 of Y\) is not known.*'joy'"),
        (frame().rename(columns={"joy": "joyy"}), r"Label 'joyy' \(a column of Y\) is not known.*'joy'"),
    ],
)
def test_an_unknown_label_is_named_with_the_closest_one(Y: Any, message: str) -> None:
    with pytest.raises(UnknownLabelError, match=message):
        SPACE.encode(Y)


@pytest.mark.parametrize(
    ("Y", "dropped"),
    [
        ([["joy", "love"], ["love", "pride", "love"], []], [1, 2, 0]),
        ([{"joy": True, "love": True}, {"love": 1, "pride": 1, "calm": False, "hope": None}, {}], [1, 2, 0]),
        (pd.DataFrame([[0, 0, 1, 1, 0], [0, 0, 0, 1, 1], [0] * 5], columns=[*NAMES, "love", "pride"]), [1, 2, 0]),
    ],
)
def test_unknown_labels_in_scoring_are_left_out_and_counted(Y: Any, dropped: list[int]) -> None:
    with pytest.warns(UserWarning, match=r"3 labels of Y are not known to the model.*'love', 'pride'\."):
        targets = SPACE.encode(Y, unknown_labels="warn")
    assert cells(targets) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert targets.dropped == 3
    assert targets.dropped_per_row is not None
    assert targets.dropped_per_row.tolist() == dropped
    assert targets.take(np.array([1, 2])).dropped == 2


def test_an_unknown_label_that_applies_nowhere_passes_without_warning() -> None:
    assert SPACE.encode([{"joy": True, "love": False}], unknown_labels="warn").dropped == 0
    assert SPACE.encode(frame().assign(love=0), unknown_labels="warn").dropped == 0


def test_columns_must_be_those_of_the_label_space() -> None:
    with pytest.raises(InvalidInputError, match=r"Y must have 3 columns, one for each label, got 2\."):
        SPACE.encode(np.zeros((4, 2)))
    with pytest.raises(InvalidInputError, match=r"lacks the column of 2 of 3 labels, first 'anger'.*NaN or -1"):
        SPACE.encode(frame()[["joy"]])
    with pytest.raises(InvalidInputError, match=r"equally long, got 5 texts and 4 rows of labels"):
        SPACE.encode(ROWS, n_samples=5)


def test_a_column_is_found_by_name() -> None:
    assert SPACE.column("joy") == 2
    with pytest.raises(UnknownLabelError, match=r"Label 'yoy' is not known\. The closest"):
        SPACE.column("yoy")
    with pytest.raises(UnknownLabelError, match=r"The only known label is 'joy'\."):
        LabelSpace(("joy",)).column(5)


def test_decode_gives_names_in_column_order() -> None:
    expected = [("joy",), (), ("anger", "fear"), ("fear", "joy")]
    assert SPACE.decode(INDICATOR) == expected
    assert SPACE.decode(INDICATOR.astype(bool)) == expected
    assert SPACE.decode(sp.csc_matrix(INDICATOR)) == expected
    assert SPACE.decode(np.zeros((0, 3))) == []
    with pytest.raises(InvalidInputError, match="must have 3 columns"):
        SPACE.decode(INDICATOR[:, :2])


@pytest.mark.parametrize(
    ("Y", "expected"),
    [
        (ROWS, YFormat("rows", "int8")),
        (INDICATOR.astype(np.float32), YFormat("array", "float32")),
        (INDICATOR.astype(bool), YFormat("array", "bool")),
        (INDICATOR.astype(object), YFormat("array", "int8")),
        (frame(), YFormat("frame", "int64")),
        (frame(anger="bool", fear="int8", joy="int8"), YFormat("frame", "int8")),
        (frame(anger="boolean", fear="boolean", joy="boolean"), YFormat("frame", "bool")),
        (frame(anger="object"), YFormat("frame", "int8")),
        (FRAMES["sparse bool"], YFormat("sparse-array", "bool")),
        (sp.csr_array(INDICATOR), YFormat("sparse-array", "int64")),
        (sp.csc_matrix(INDICATOR.astype(float)), YFormat("sparse-matrix", "float64")),
    ],
)
def test_predictions_come_back_in_the_form_of_Y(Y: Any, expected: YFormat) -> None:
    form = y_format(Y)
    assert form == expected
    assert YFormat(**json.loads(json.dumps(asdict(form)))) == form
    for indicator in (SPACE.encode(INDICATOR).indicator, INDICATOR.astype(bool)):
        restored = form.restore(indicator)
        assert restored.dtype == np.dtype(expected.dtype)
        if form.sparse:
            assert restored.format == "csr"
            assert isinstance(restored, sp.sparray) == (expected.kind == "sparse-array")
            restored = restored.toarray()
        assert isinstance(restored, np.ndarray)
        assert restored.astype(int).tolist() == INDICATOR.tolist()


def test_to_indicator_gives_a_frame_for_scikit_learn() -> None:
    pd.testing.assert_frame_equal(to_indicator(ROWS), frame().astype("int8"))
    Y = pd.Series([{"joy": None}, {"fear": True}], index=["x", "y"])
    expected = pd.DataFrame([[0, 0, -1], [0, 1, 0]], columns=list(NAMES), index=["x", "y"], dtype="int8")
    pd.testing.assert_frame_equal(to_indicator(Y, classes=NAMES), expected)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (LabelSpace(("joy",)).encode([["joy"], []]), r"at least 2 labels, got 1\. With one label scikit-learn"),
        (SPACE.encode([[], []]), r"No label applies to any of the 2 rows"),
        (SPACE.encode(np.full((2, 3), np.nan)), r"Y has no known cell"),
    ],
)
def test_targets_that_teach_nothing_are_refused(targets: Targets, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_trainable(targets)


def test_a_label_that_never_applies_is_legal_and_counted() -> None:
    targets = LabelSpace.infer(ROWS, classes=[*NAMES, "love"]).encode(ROWS)
    check_trainable(targets)
    assert targets.positives.tolist() == [1, 2, 2, 0]


def test_label_spaces_and_targets_can_be_pickled() -> None:
    targets = SPACE.encode(np.array(GAPS))
    assert targets.positives.tolist() == [1, 0, 1]
    assert cells(pickle.loads(pickle.dumps(targets))) == GAPS
    assert pickle.loads(pickle.dumps(SPACE)) == SPACE


def test_many_sparse_labels_are_never_made_dense() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    n_samples, n_labels, n_cells = 100_000, 20_000, 300_000
    places = np.unique(rng.integers(0, n_samples * n_labels, n_cells))
    Y = sp.csr_array((np.ones(len(places)), np.divmod(places, n_labels)), shape=(n_samples, n_labels))
    tracemalloc.start()
    targets = LabelSpace.infer(Y).encode(Y)
    targets.take(np.arange(0, n_samples, 2))
    targets.dense(np.arange(32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert targets.positives.sum() == len(places)
    # As int8 a dense matrix would take 2 GB.
    assert peak < 100e6


labels_ = st.one_of(st.text(min_size=1, max_size=3), st.integers(-5, 5))
names_ = st.lists(labels_, min_size=1, max_size=8, unique_by=str)


@st.composite
def names_and_rows(draw: st.DrawFn) -> tuple[list[Any], list[set[Any]]]:
    names = draw(names_)
    return names, draw(st.lists(st.sets(st.sampled_from(names)), min_size=1, max_size=12))


@given(names_and_rows())
def test_labels_survive_encoding_and_decoding(drawn: tuple[list[Any], list[set[Any]]]) -> None:
    names, rows = drawn
    space = LabelSpace(tuple(names))
    targets = space.encode(rows)
    decoded = space.decode(targets.indicator)
    assert [set(row) for row in decoded] == rows
    assert all(list(row) == sorted(row, key=names.index) for row in decoded)
    assert cells(space.encode([dict.fromkeys(row, True) for row in rows])) == cells(targets)
    assert cells(space.encode(to_indicator(rows, names))) == cells(targets)


@given(names_and_rows())
def test_inferred_labels_are_those_that_occur(drawn: tuple[list[Any], list[set[Any]]]) -> None:
    rows = drawn[1]
    occurring = set().union(*rows)
    if occurring:
        names = LabelSpace.infer(rows).names
        assert set(names) == occurring
        assert list(names) == sorted(names, key=lambda name: (isinstance(name, str), name))


tri_state = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([-1, 0, 1])
)


@given(tri_state, st.data())
def test_dense_and_take_give_the_rows_asked_for(Y: np.ndarray[Any, Any], data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(Y) - 1), max_size=12)), dtype=np.int64)
    targets = LabelSpace.infer(Y).encode(Y)
    dense, known = targets.dense(rows)
    assert dense.tolist() == (Y[rows] == 1).astype(float).tolist()
    assert (np.ones(dense.shape, bool) if known is None else known).tolist() == (Y[rows] != -1).tolist()
    taken = targets.take(rows)
    assert len(taken) == len(rows)
    assert taken.positives.tolist() == (Y[rows] == 1).sum(axis=0).tolist()
    assert taken.known_counts.tolist() == (Y[rows] != -1).sum(axis=0).tolist()
    assert taken.dense(np.arange(len(rows)))[0].tolist() == dense.tolist()


@given(tri_state)
def test_all_matrix_forms_agree(Y: np.ndarray[Any, Any]) -> None:
    space = LabelSpace.infer(Y)
    floats = np.where(Y == -1, np.nan, Y)
    forms = [Y, floats, sp.csr_array(Y), sp.csc_matrix(floats), pd.DataFrame(Y), pd.DataFrame(floats)]
    assert all(cells(space.encode(form)) == Y.tolist() for form in forms)
