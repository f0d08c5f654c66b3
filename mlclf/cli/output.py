"""What goes where: results to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def results_only() -> Iterator[IO[str]]:
    """Give standard output for results; what libraries print meanwhile goes to standard error.

    Yields
    ------
    file
        The standard output of the process.
    """
    results = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield results


@contextlib.contextmanager
def messages_to_stderr(level: int) -> Iterator[None]:
    """Show what mlclf logs from a level on, and warnings without their place in the code, on standard error."""
    logger = logging.getLogger("mlclf")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: logger.warning("%s", message)
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def write_json(value: Any, file: IO[str]) -> None:
    """Write one JSON value, indented, with a line end."""
    file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
