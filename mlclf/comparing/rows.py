"""The rows of a comparison: what is trained on, tuned on, and scored on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlclf.datasets import Dataset, load
from mlclf.exceptions import DataFileError, OptionsError
from mlclf.label_names import Label, sort_key
from mlclf.labels import LabelSpace
from mlclf.model_selection import stratified_split

# What the files of a folder are called, and the formats in which they may stand there.
_NAMES = {"train": ("train",), "validation": ("dev", "validation", "valid", "val"), "test": ("test",)}
_ENDINGS = tuple(f"{ending}{packed}" for ending in (".jsonl", ".ndjson", ".csv", ".tsv") for packed in ("", ".gz"))
# Share of the rows that are scored where no test rows are given. It depends on no seed of a run, so that all runs are
# scored on the same rows.
_TEST_SHARE = 0.2
_SPLIT_SEED = 0


@dataclass(frozen=True)
class ComparedRows:
    """Rows that all runs share.

    Parameters
    ----------
    train : Dataset
    test : Dataset
        Scored once a run; nothing is tuned on it.
    validation : Dataset or None
        Thresholds and the best epoch come from it; None takes a share of the training rows, another one for each seed.
    source : str
        Where they come from, in words.

    Raises
    ------
    DataFileError
        If one of them has no labels.

    Examples
    --------
    >>> from mlclf.datasets import make_feedback
    >>> rows = ComparedRows(train=make_feedback(80), test=make_feedback(20, random_state=1))
    >>> rows.described
    '80 training and 20 test rows'
    """

    train: Dataset
    test: Dataset
    validation: Dataset | None = None
    source: str = "rows given in Python"

    def __post_init__(self) -> None:
        for name, data in self.parts.items():
            if data.labels is None or not len(data):
                raise DataFileError(f"The {name} rows of a comparison need labels, and there must be some.")

    @property
    def parts(self) -> dict[str, Dataset]:
        """The data sets that there are, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: data for name, data in found.items() if data is not None}

    @property
    def described(self) -> str:
        """How many rows of each kind there are."""
        counts = {"training": self.train, "validation": self.validation, "test": self.test}
        words = [f"{len(data):,} {name}" for name, data in counts.items() if data is not None]
        return f"{', '.join(words[:-1])} and {words[-1]} rows"

    @property
    def classes(self) -> tuple[Label, ...]:
        """Labels of training and validation rows, in column order."""
        validation = () if self.validation is None else self.validation.classes
        known = set(self.train.classes)
        return (*self.train.classes, *sorted((label for label in validation if label not in known), key=sort_key))

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of texts and labels, by name of the data set."""
        return {name: _checksum(data) for name, data in self.parts.items()}


def read_rows(
    data: str | Path,
    *,
    test: str | Path | None = None,
    rows: int | None = None,
    **columns: Any,
) -> ComparedRows:
    """Read the rows of a comparison.

    Parameters
    ----------
    data : path
        A file of rows; or a folder with ``train`` and, where there are such, ``validation`` (or ``dev``) and ``test``
        in a format that :func:`mlclf.datasets.load` reads.
    test : path or None
        File of test rows. Without it, those of the folder are taken; where it has none, a fifth of the rows is held
        out by iterative stratification.
    rows : int or None
        Take at most so many rows of each file, chosen by stratification.
    **columns
        As :func:`mlclf.datasets.load` takes them: ``text_column``, ``label_column``, ``indicator_columns``,
        ``label_separator``.

    Raises
    ------
    DataFileError
        If a file is absent or cannot be read as texts and labels.
    OptionsError
        If ``rows`` is too small to be divided.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf.datasets import make_feedback, save_jsonl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_jsonl(make_feedback(100), f"{folder}/train.jsonl")
    ...     read_rows(folder, rows=50).described
    '40 training and 10 test rows'
    """
    if rows is not None and rows < 2:
        raise OptionsError(f"rows={rows}: a comparison needs at least 2, one to train on and one to score.")
    folder = Path(data)
    files = _files_of(folder) if folder.is_dir() else {"train": folder}
    if test is not None:
        files["test"] = Path(test)
    found = {name: _limited(load(path, **columns), rows) for name, path in files.items()}
    train, held_out = found["train"], found.get("test")
    if held_out is None:
        train, held_out = _divided(train, _TEST_SHARE)
    return ComparedRows(train, held_out, found.get("validation"), source=str(folder))


def _files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by what they are for."""
    found = {}
    for part, names in _NAMES.items():
        files = [folder / f"{name}{ending}" for name in names for ending in (*_ENDINGS, ".parquet")]
        present = [path for path in files if path.is_file()]
        if len(present) > 1:
            raise DataFileError(
                f"{folder} has several files of {part} rows: {', '.join(path.name for path in present)}. "
                "Leave one of them, or name files instead of the folder."
            )
        if present:
            found[part] = present[0]
    if "train" not in found:
        others = sorted(path.name for path in folder.iterdir() if path.is_file())[:5]
        raise DataFileError(
            f"{folder} has no training rows: a file train.jsonl, train.csv, train.tsv (each also with .gz behind it) "
            f"or train.parquet. It holds: {', '.join(others) or 'no files'}."
        )
    return found


def _limited(data: Dataset, rows: int | None) -> Dataset:
    """Return at most so many of the rows, each label in proportion."""
    return data if rows is None or len(data) <= rows else _divided(data, rows)[1]


def _divided(data: Dataset, part: float | int) -> tuple[Dataset, Dataset]:
    """Divide rows in two; the second has a share or a number of them."""
    targets = LabelSpace(data.classes).encode(data.labels or [], n_samples=len(data))
    rest, taken = stratified_split(targets, part, _SPLIT_SEED)
    return data.take(np.asarray(rest).tolist()), data.take(np.asarray(taken).tolist())


def _checksum(data: Dataset) -> str:
    digest = hashlib.sha256()
    for text, labels in zip(data.texts, data.labels or [], strict=True):
        digest.update(json.dumps([text, labels], ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
