"""Labels that a command is given: their names, one by one or in a file, and what they mean."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlclf.datasets.lines import existing_file, read_lines
from mlclf.exceptions import DataFileError, OptionsError, UnknownLabelError
from mlclf.hints import did_you_mean
from mlclf.label_names import Label, checked_names, is_label_type

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# A label, and what it means where that is said.
_Pairs = list[tuple[Label, str | None]]


def given_labels(
    names: Sequence[str], file: Path | None, configured: Sequence[Label] | None, descriptions: Sequence[str]
) -> tuple[tuple[Label, ...], dict[str, str]]:
    """Return the labels that a command was given, and what they mean.

    Parameters
    ----------
    names : sequence of str
        What stands behind each ``--label``.
    file : Path or None
        What stands behind ``--labels``.
    configured : sequence of str or int, or None
        ``classes`` of a configuration, for want of names and file.
    descriptions : sequence of str
        What stands behind each ``--description``; they go before those of the file.

    Returns
    -------
    names : tuple of str or int, length n_labels
        In column order.
    descriptions : dict of str to str
        By label name.

    Raises
    ------
    OptionsError
        If there are names and a file, or neither.
    DataFileError
        If the file cannot be read as labels.
    InvalidInputError
        If a name is empty or occurs twice.
    UnknownLabelError
        If a description is of no label.
    """
    if names and file is not None:
        raise OptionsError("Labels come from --label or from --labels FILE, not from both.")
    if file is not None:
        pairs = read_labels(file)
    elif names or configured:
        pairs = [(name, None) for name in names or configured or ()]
    else:
        raise OptionsError("Name the labels: --label sports --label music, or --labels FILE with a label a line.")
    found = checked_names(name for name, _ in pairs)
    told = {str(name): text for name, text in pairs if text is not None}
    return found, told | parse_descriptions(descriptions, found)


def read_labels(path: Path) -> _Pairs:
    """Read labels from a file.

    Parameters
    ----------
    path : Path
        ``.txt`` with a label a line; ``.json`` with a list of labels, or an object of label and description or null;
        ``.csv`` or ``.tsv`` with a column ``label`` and, if any are described, a column ``description``.

    Returns
    -------
    list of (str or int, str or None)
        Names and descriptions in the order of the file.

    Raises
    ------
    DataFileError
        If the name has another ending, or the file has another form or no label.
    """
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".json", *_DELIMITERS):
        raise DataFileError(f"{path}: labels are read from .txt (a label a line), .json, .csv or .tsv.")
    file = existing_file(path)
    if suffix == ".json":
        pairs = _from_json(file)
    elif suffix == ".txt":
        pairs = [(line.strip(), None) for line in read_lines(file) if line.strip()]
    else:
        pairs = list(_from_table(file, _DELIMITERS[suffix]))
    if not pairs:
        raise DataFileError(f"{path} holds no label.")
    return pairs


def parse_descriptions(given: Sequence[str], names: Sequence[Label]) -> dict[str, str]:
    """Read ``LABEL=TEXT`` as it stands behind ``--description``.

    Parameters
    ----------
    given : sequence of str
    names : sequence of str or int
        The labels, which may hold equals signs; the longest that fits is meant.

    Raises
    ------
    OptionsError, UnknownLabelError

    Examples
    --------
    >>> parse_descriptions(["a=b=the letters", "a=the first"], ["a", "a=b"])
    {'a=b': 'the letters', 'a': 'the first'}
    """
    found: dict[str, str] = {}
    for text in given:
        if "=" not in text:
            raise OptionsError(f"--description {text}: write LABEL=TEXT, such as economy='business and trade'.")
        fitting = [str(name) for name in names if text.startswith(f"{name}=")]
        if not fitting:
            name = text.partition("=")[0]
            raise UnknownLabelError(f"--description is of {name!r}, which is no label.{did_you_mean(name, names)}")
        label = max(fitting, key=len)
        if label in found:
            raise OptionsError(f"--description of {label!r} is given twice.")
        found[label] = text[len(label) + 1 :].strip()
        if not found[label]:
            raise OptionsError(f"--description of {label!r} is empty. Leave it out.")
    return found


def _from_json(path: Path) -> _Pairs:
    text = "".join(read_lines(path))
    try:
        # Pairs instead of a dictionary, in which a label that occurs twice would be lost.
        value = json.loads(text, object_pairs_hook=_Object)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataFileError(f"{path} is not JSON: {error}.") from error
    if isinstance(value, _Object):
        return [(name, _described(told, f"{path}, label {name!r}")) for name, told in value]
    if not isinstance(value, list):
        raise DataFileError(f"{path}: expected a list of labels, or an object of label and description.")
    return [(_name(name, path), None) for name in value]


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs."""


def _name(value: Any, path: Path) -> Label:
    if is_label_type(type(value)):
        label: Label = value
        return label
    raise DataFileError(f"{path}: a label must be a str or an int, got {value!r}.")


def _described(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise DataFileError(f"{where}: a description must be a str, or null for none, got {value!r}.")


def _from_table(path: Path, delimiter: str) -> Iterable[tuple[Label, str | None]]:
    reader = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if sorted(header) not in (["label"], ["description", "label"]):
            raise DataFileError(
                f"{path}: the first line must name the columns: label, and description if there is one. "
                f"It has: {', '.join(map(repr, header))}."
            )
        for cells in reader:
            if cells:
                yield _row(header, cells, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        raise DataFileError(f"{path}, line {reader.line_num} cannot be read: {error}.") from error


def _row(header: list[str], cells: list[str], where: str) -> tuple[Label, str | None]:
    if len(cells) != len(header):
        raise DataFileError(
            f"{where}: the row has {len(cells)} cells, the header has {len(header)}. "
            "Put cells that hold the delimiter or a line break in quotes."
        )
    row = dict(zip(header, cells, strict=True))
    return row["label"].strip(), row.get("description", "").strip() or None
