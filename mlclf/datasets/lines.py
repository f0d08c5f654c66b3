"""Reading text files line by line, plain or gzipped, with errors that say where."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from mlclf.exceptions import DataFileError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that is there and not empty.

    Raises
    ------
    DataFileError
        If it is absent, a folder, or empty.
    """
    found = Path(path)
    if found.is_dir():
        raise DataFileError(f"{found} is a folder. Name a file in it{_some_files(found)}.")
    if not found.exists():
        raise DataFileError(f"There is no file {found}{_some_files(found.parent)}.")
    if found.stat().st_size == 0:
        raise DataFileError(f"{found} is empty.")
    return found


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, with their line ends.

    Parameters
    ----------
    path : Path
        Unpacked while reading where the name ends with ``.gz``.

    Yields
    ------
    str

    Raises
    ------
    DataFileError
        If the file cannot be read or unpacked, or a line is not UTF-8.
    """
    try:
        with _open(path) as file:
            yield from decode_lines(file, str(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataFileError(f"{path} cannot be unpacked ({error}). It is damaged, or not gzipped.") from error
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}.") from error


def decode_lines(file: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield the lines of a binary file as text.

    Parameters
    ----------
    file : iterable of bytes
        Lines with their ends.
    name : str
        Of the file, for messages.

    Raises
    ------
    DataFileError
        If a line is not UTF-8.
    """
    for number, line in enumerate(file, start=1):
        yield _decoded(line, f"{name}, line {number}", first=number == 1)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _decoded(line: bytes, where: str, *, first: bool) -> str:
    if first:
        if line.startswith(_OTHER_ENCODINGS):
            raise DataFileError(f"{where}: the file is UTF-16. Save it as UTF-8.")
        line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataFileError(
            f"{where}: byte {error.start + 1} of the line ({line[error.start : error.start + 1]!r}) is not UTF-8. "
            "Save the file as UTF-8."
        ) from error


def _some_files(folder: Path) -> str:
    """Return the beginning of a folder's listing as a part of a sentence."""
    if not folder.is_dir():
        return f" (nor a folder {folder})"
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))[:5]
    return f"; {folder} holds: {', '.join(names)}" if names else ""
