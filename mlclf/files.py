"""Files: checksums, and folders that are replaced whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlclf.exceptions import OptionsError


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_replaceable(folder: Path, *, ours: bool, what: str) -> None:
    """Refuse to write over a folder that holds something else.

    Parameters
    ----------
    folder : Path
        Where something is to be written with :func:`replace_folder`.
    ours : bool
        Whether what is there now is of the kind that is to be written.
    what : str
        That kind, for the message: ``"a saved model"``.

    Raises
    ------
    OptionsError
        If the folder is there, not empty, and not ours.
    """
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not ours:
        raise OptionsError(
            f"{str(folder)!r} exists and is not {what}: it would be replaced whole. Give a new folder name."
        )


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``target`` when the block ends without error.

    The new folder is written beside the old one and synchronised to disk first, so that a full disk, an error or a
    crash leaves the old folder as it was.

    Parameters
    ----------
    target : Path
        Folder to write or replace.

    Yields
    ------
    Path
        Folder to write into.
    """
    target = Path(os.path.abspath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        new = work / "new"
        new.mkdir()
        yield new
        for path in new.rglob("*"):
            _synchronise(path)
        _swap(new, target, aside=work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _swap(new: Path, target: Path, aside: Path) -> None:
    """Put ``new`` in the place of ``target``, which is moved aside first and comes back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _synchronise(path: Path) -> None:
    """Make sure that a file's content is on the disk."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
