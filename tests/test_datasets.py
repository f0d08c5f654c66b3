"""Readers and writers: every format, and an error for every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlclf.datasets import Dataset, load, load_csv, load_jsonl, load_parquet, make_feedback, save_jsonl, write_jsonl
from mlclf.exceptions import DataFileError, InvalidInputError, MissingExtraError, OptionsError

TEXTS = ["late again", "lovely, and on time", "hello"]
LABELS = [("complaint", "delivery"), ("delivery", "praise"), ()]
CLASSES = ("complaint", "delivery", "praise")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes a file and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def as_jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [{"text": t, "labels": list(y)} for t, y in zip(TEXTS, LABELS, strict=True)]
CSV = 'text,labels\nlate again,complaint;delivery\n"lovely, and on time",delivery ; praise\nhello,\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", as_jsonl(*ROWS)),
        ("a.NDJSON", as_jsonl(*ROWS)),
        ("a.b.jsonl.gz", gzip.compress(as_jsonl(*ROWS).encode(), mtime=0)),
        ("a.csv", CSV),
        ("a.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("a.tsv", CSV.replace('"', "").replace("lovely,", "lovely#").replace(",", "\t").replace("#", ",")),
    ],
)
def test_every_text_format_gives_the_same_data(file: Any, name: str, content: str | bytes) -> None:
    assert load(file(name, content)) == Dataset(TEXTS, LABELS, CLASSES)


def test_parquet_gives_the_same_data(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"other": [1, 2, 3], "text": TEXTS, "labels": [list(row) for row in LABELS]}).to_parquet(path)
    assert load(path) == load_parquet(path) == Dataset(TEXTS, LABELS, CLASSES)


def test_other_columns_can_be_named(file: Any) -> None:
    path = file("a.jsonl", as_jsonl({"body": "hi", "tags": [3, 1]}))
    assert load_jsonl(path, text_column="body", label_column="tags") == Dataset(["hi"], [(3, 1)], (1, 3))
    path = file("a.csv", "body|tags\nhi|a/b\n")
    data = load_csv(path, text_column="body", label_column="tags", label_separator="/", delimiter="|")
    assert data == Dataset(["hi"], [("a", "b")], ("a", "b"))


def test_files_without_labels_can_be_read(file: Any) -> None:
    assert load(file("a.jsonl", as_jsonl({"text": "hi"})), label_column=None) == Dataset(["hi"], None, ())
    assert load(file("a.csv", "text\nhi\n"), label_column=None) == Dataset(["hi"], None, ())


def test_indicator_columns_keep_their_order(file: Any) -> None:
    path = file("a.csv", "text,price,delivery\nhi,1,0\nho,0.0,TRUE\n")
    data = load(path, indicator_columns=["price", "delivery"])
    assert data == Dataset(["hi", "ho"], [("price",), ("delivery",)], ("price", "delivery"))


def test_cells_not_known_become_none(file: Any, tmp_path: Path) -> None:
    expected = Dataset(["hi", "ho"], [{"a": True, "b": None}, {"a": False, "b": None}], ("a", "b"))
    assert load(file("a.csv", "text,a,b\nhi,1,\nho,0,-1\n"), indicator_columns=["a", "b"]) == expected
    pd.DataFrame({"text": ["hi", "ho"], "a": [1, 0], "b": [float("nan"), -1]}).to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", indicator_columns=["a", "b"]) == expected
    rows = as_jsonl(*({"text": t, "labels": y} for t, y in zip(expected.texts, expected.labels or [], strict=True)))
    assert load(file("a.jsonl", rows)) == expected


def test_objects_that_know_every_cell_become_label_sets(file: Any) -> None:
    path = file("a.jsonl", as_jsonl({"text": "hi", "labels": {"a": True, "b": False}}, {"text": "ho", "labels": ["b"]}))
    assert load(path).labels == [("a",), ("b",)]


def test_label_lists_beside_objects_with_unknown_cells_are_written_alike(file: Any) -> None:
    path = file("a.jsonl", as_jsonl({"text": "hi", "labels": {"a": None}}, {"text": "ho", "labels": ["b"]}))
    assert load(path).labels == [{"a": None}, {"b": True}]


def test_data_goes_into_a_label_space_as_it_is(file: Any) -> None:
    from mlclf.labels import LabelSpace

    data = load(file("a.csv", "text,a,b\nhi,1,\nho,0,1\n"), indicator_columns=["a", "b"])
    assert LabelSpace(data.classes).encode(data.labels).known_counts.tolist() == [2, 1]


def test_cells_longer_than_the_csv_module_allows_are_read(file: Any) -> None:
    import csv

    before = csv.field_size_limit()
    assert len(load(file("a.csv", "text,labels\n" + "x" * 200_000 + ",a\n")).texts[0]) == 200_000
    assert csv.field_size_limit() == before


def test_line_breaks_of_unicode_do_not_end_a_line(file: Any) -> None:
    path = file("a.jsonl", '{"text": "one\u2028two", "labels": []}\n\n')
    assert load(path).texts == ["one\u2028two"]


WRONG_FILES = [
    ("a.jsonl", "", r"a\.jsonl is empty"),
    ("a.jsonl", "\n \n", r"a\.jsonl holds blank lines only"),
    ("a.jsonl", '{"text": "a", "labels": []}\n{"text": }\n', r"a\.jsonl, line 2 is not JSON: .* at character 10"),
    ("a.jsonl", "[\n{}]", r"line 1 is not JSON: .*one whole object a line"),
    ("a.jsonl", "[1]\n", r"line 1: expected an object .* got list"),
    ("a.jsonl", "[" * 100_000, r"line 1 is (nested too deeply|not JSON)"),
    (
        "a.jsonl",
        '{"body": "a", "tag": []}',
        r"line 1: there is no column 'text'. It has: 'body', 'tag'. Name .*text_column",
    ),
    ("a.jsonl", '{"text": "a"}', r"there is no column 'labels'. It has: 'text'. .*label_column; None reads texts"),
    ("a.jsonl", '{"text": null, "labels": []}', r"line 1, column 'text': a text must be a str, got None"),
    ("a.jsonl", '{"text": 3, "labels": []}', r"a text must be a str, got 3. Put it in quotes"),
    (
        "a.jsonl",
        '{"text": "", "labels": "joy"}',
        r"column 'labels': labels must be a list .* got 'joy'. Write \['joy'\]",
    ),
    ("a.jsonl", '{"text": "", "labels": null}', r"got None. Write \[\] for a text without labels"),
    ("a.jsonl", '{"text": "", "labels": 3}', r"got 3. Write a list"),
    ("a.jsonl", '{"text": "", "labels": [1.5]}', r"line 1.*a label must be an int or a str .* got 1.5"),
    ("a.jsonl", '{"text": "", "labels": [true]}', r"a label must be .* got True"),
    ("a.jsonl", '{"text": "", "labels": [""]}', r"a label must be .* got ''"),
    ("a.jsonl", '{"text": "", "labels": [["a"]]}', r"a label must be .* got \['a'\]"),
    (
        "a.jsonl",
        '{"text": "", "labels": {"a": 2}}',
        r"label 'a' must be 1 \(applies\), 0, or empty \(not known\), got 2",
    ),
    ("a.jsonl", '{"text": "", "labels": {"a": [1]}}', r"label 'a' must be 1 .* got \[1\]"),
    (
        "a.jsonl",
        b'{"text": "ok", "labels": []}\n{"text": "caf\xe9"}',
        r"line 2: byte 14 of the line \(b'\\xe9'\) is not UTF-8",
    ),
    ("a.csv", "text\thi".encode("utf-16"), r"line 1: the file is UTF-16. Save it as UTF-8"),
    ("a.csv", "id,body\n1,hi\n", r"a\.csv: there is no column 'text'. It has: 'id', 'body'"),
    ("a.csv", "text,labels\nhi, there,a\n", r"line 2: the row has 3 cells, the header has 2. Put cells .* in quotes"),
    ("a.csv", 'text,labels\n"hi,a\n', r"a\.csv, line 2 is not CSV: unexpected end of data"),
    ("a.csv.gz", b"text,labels\n", r"a\.csv\.gz cannot be unpacked"),
    ("a.csv.gz", gzip.compress(b"text,labels\n" * 1000, mtime=0)[:-12], r"cannot be unpacked"),
    ("a.parquet", b"PAR1 nonsense PAR1", r"a\.parquet cannot be read as Parquet"),
    ("a.json", "{}", r"the ending says no format that can be read. Name the file \.jsonl"),
    ("a.parquet.gz", b"x", r"Parquet is compressed inside"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES)
def test_wrong_file_is_refused_with_place_and_way_out(file: Any, name: str, content: Any, message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        load(file(name, content))


def test_indicator_cell_that_is_neither_is_refused(file: Any) -> None:
    with pytest.raises(DataFileError, match=r"a\.csv, line 3: label 'a' must be 1 \(applies\), 0, .* got 'yes'"):
        load(file("a.csv", "text,a\nhi,1\nho,yes\n"), indicator_columns=["a"])


def test_missing_indicator_column_is_named(file: Any) -> None:
    with pytest.raises(DataFileError, match=r"there is no column 'b'. It has: 'text', 'a'. Correct indicator_columns"):
        load(file("a.csv", "text,a\nhi,1\n"), indicator_columns=["a", "b"])


def test_parquet_rows_of_the_wrong_type_are_numbered_as_in_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["hi", None], "labels": [["a"], ["b"]]}).to_parquet(path)
    with pytest.raises(DataFileError, match=r"a\.parquet, row 1, column 'text': a text must be a str, got None"):
        load(path)
    with pytest.raises(DataFileError, match=r"there is no column 'tags'. It has: 'text', 'labels'"):
        load(path, label_column="tags")


def test_absent_file_shows_what_the_folder_holds(tmp_path: Path, file: Any) -> None:
    with pytest.raises(DataFileError, match=r"There is no file .*a\.csv\.$"):
        load(tmp_path / "a.csv")
    file("train.csv", CSV)
    with pytest.raises(DataFileError, match=r"There is no file .*tarin\.csv; .* holds: train\.csv"):
        load(tmp_path / "tarin.csv")
    with pytest.raises(DataFileError, match="nor a folder"):
        load(tmp_path / "none" / "a.csv")


def test_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataFileError, match=r"is a folder\. Name a file in it"):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indicator_columns": "joy"}, "indicator_columns must be a sequence of str, got 'joy'"),
        ({"indicator_columns": []}, "indicator_columns is empty"),
        ({"label_separator": ""}, "label_separator is empty"),
        ({"delimiter": ";;"}, "delimiter must be one character, got ';;'"),
    ],
)
def test_impossible_arguments_are_refused(file: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        load_csv(file("a.csv", CSV), **arguments)


def test_parquet_without_pyarrow_names_the_extra(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs 'pyarrow'.*pip install 'mlclf\[train\]'"):
        load(file("a.parquet", b"x"))


def test_data_set_needs_a_label_set_for_each_text() -> None:
    with pytest.raises(InvalidInputError, match="got 2 texts and 1 label sets"):
        Dataset(["a", "b"], [()], ())


def test_take_keeps_order_and_classes() -> None:
    data = Dataset(TEXTS, LABELS, CLASSES).take([2, 0])
    assert (data.texts, data.labels, data.classes) == (
        ["hello", "late again"],
        [(), ("complaint", "delivery")],
        CLASSES,
    )
    assert Dataset(TEXTS, None, ()).take([1]).labels is None


@pytest.mark.parametrize("name", ["a.jsonl", "new/folder/a.jsonl.gz"])
def test_saved_data_is_read_back_equal(tmp_path: Path, name: str) -> None:
    data = make_feedback(50)
    save_jsonl(data, tmp_path / name)
    read = load(tmp_path / name)
    assert (read.texts, read.labels) == (data.texts, data.labels)


def test_data_without_labels_is_saved_without_them(tmp_path: Path) -> None:
    save_jsonl(Dataset(["hi"], None, ()), tmp_path / "a.jsonl")
    assert load(tmp_path / "a.jsonl", label_column=None) == Dataset(["hi"], None, ())


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl([{"a": 1}], path)
    with pytest.raises(ZeroDivisionError):
        write_jsonl(({"a": 1 // n} for n in (1, 0)), path)
    assert path.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataFileError, match="cannot be written"):
        write_jsonl([], tmp_path / "file" / "a.jsonl")


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.integers()),
        ),
        min_size=1,
    )
)
def test_any_text_and_label_survives_the_way_through_a_file(rows: list[tuple[str, list[str | int]]]) -> None:
    import tempfile

    data = Dataset([text for text, _ in rows], [tuple(row) for _, row in rows], ())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        save_jsonl(data, path)
        read = load(path)
    assert (read.texts, read.labels) == (data.texts, data.labels)
