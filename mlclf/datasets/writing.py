"""Writers: data sets and predictions as JSON Lines."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from mlclf.datasets.dataset import Dataset
from mlclf.exceptions import DataFileError


def json_line(row: Mapping[str, Any]) -> str:
    r"""Return an object as one line of JSON, with characters of all scripts as they are and a line end.

    Examples
    --------
    >>> json_line({"text": "très bien", "labels": ("praise",)})
    '{"text": "très bien", "labels": ["praise"]}\n'
    """
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write objects as JSON Lines, gzipped where the name ends with ``.gz``.

    The file appears, or an older one is replaced, when all rows are written: an error on the way leaves no half file.

    Parameters
    ----------
    rows : iterable of mapping
        JSON-ready objects.
    path : path
        File to write; its folder is made where it is absent.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    DataFileError
        If the file cannot be written.
    """
    number = 0
    try:
        with _replacing(Path(path)) as file:
            for row in rows:
                file.write(json_line(row).encode("utf-8"))
                number += 1
    except OSError as error:
        raise DataFileError(f"{path} cannot be written: {error.strerror or error}.") from error
    return number


def save_jsonl(data: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a data set as JSON Lines that :func:`load_jsonl` reads back.

    Parameters
    ----------
    data : Dataset
    path : path
        File to write.

    Raises
    ------
    DataFileError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from mlclf.datasets import load_jsonl, make_feedback, save_jsonl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "feedback.jsonl.gz")
    ...     save_jsonl(make_feedback(5), file)
    ...     load_jsonl(file).texts == make_feedback(5).texts
    True
    """
    write_jsonl(_rows(data), path)


def _rows(data: Dataset) -> Iterator[dict[str, Any]]:
    if data.labels is None:
        yield from ({"text": text} for text in data.texts)
    else:
        yield from ({"text": text, "labels": row} for text, row in zip(data.texts, data.labels, strict=True))


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of ``path`` when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with work.open("wb") as raw, _packed(raw, path) as file:
            yield file
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def _packed(raw: IO[bytes], path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(raw, "wb")) if path.suffix == ".gz" else raw
