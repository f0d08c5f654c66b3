"""Fields of a JSON document that somebody else wrote, taken out one by one with a check each."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mlclf.exceptions import BundleDamagedError

# No manifest of a hundred thousand labels comes near it.
_MAX_BYTES = 256 << 20

# JSON has whole numbers of any size, and 1e999 reads as infinity.
_TOO_LARGE = 1e38


class Fields:
    """The fields of one JSON object.

    Each method takes one field out and checks it; :meth:`finish` refuses what nobody took. Every error names the field
    and the file.

    Parameters
    ----------
    content : Any
        What the JSON has at this place; must be an object.
    where : str
        The place, for messages: the file, and the fields that led here.

    Examples
    --------
    >>> fields = Fields({"n": 3, "side": "left"}, "example.json")
    >>> fields.whole("n", least=1), fields.choice("side", ("left", "right"))
    (3, 'left')
    >>> fields.finish()
    >>> Fields({"n": "3"}, "example.json").whole("n", least=1)
    Traceback (most recent call last):
    ...
    mlclf.exceptions.BundleDamagedError: example.json: field 'n' must be a whole number of at least 1, got '3'. ...
    """

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, dict):
            raise BundleDamagedError(f"{where} must be a JSON object, got {_short(content)}. Copy the folder again.")
        self._left = dict(content)
        self._where = where

    def take(self, name: str) -> Any:
        """Take a field out, whatever it holds."""
        try:
            return self._left.pop(name)
        except KeyError:
            raise BundleDamagedError(f"{self._where}: field {name!r} is missing. Copy the folder again.") from None

    def finish(self) -> None:
        """Refuse fields that nobody took."""
        for name in self._left:
            raise BundleDamagedError(f"{self._where}: field {_short(name)} is not known. Copy the folder again.")

    def part(self, name: str) -> Fields:
        """Take an object out."""
        return Fields(self.take(name), f"{self._where}: field {name!r}")

    def part_or_none(self, name: str) -> Fields | None:
        """Take an object or null out."""
        if self._left.get(name, 0) is None:
            return self.take(name)  # type: ignore[no-any-return]  # None
        return self.part(name)

    def parts(self, name: str) -> list[tuple[str, Fields]]:
        """Take an object out whose values are objects, by their names."""
        inner = f"{self._where}: field {name!r}"
        return [(key, Fields(value, f"{inner}, {_short(key)}")) for key, value in self.mapping(name).items()]

    def mapping(self, name: str) -> dict[str, Any]:
        """Take an object out whose content is its reader's business."""
        value = self.take(name)
        return value if isinstance(value, dict) else self.refuse(name, "be an object", value)

    def text(self, name: str) -> str:
        """Take a text out."""
        value = self.take(name)
        return value if isinstance(value, str) else self.refuse(name, "be text", value)

    def whole(self, name: str, *, least: int) -> int:
        """Take a whole number out."""
        value = self.take(name)
        if type(value) is not int or value < least:
            self.refuse(name, f"be a whole number of at least {least}", value)
        return int(value)

    def whole_or_none(self, name: str, *, least: int) -> int | None:
        """Take a whole number or null out."""
        if self._left.get(name, 0) is None:
            return self.take(name)  # type: ignore[no-any-return]  # None
        return self.whole(name, least=least)

    def number(self, name: str) -> float:
        """Take a number out that is not negative."""
        value = self.take(name)
        if not is_number(value) or value < 0:
            self.refuse(name, "be a number of at least 0", value)
        return float(value)

    def choice(self, name: str, choices: Collection[str]) -> str:
        """Take one of some words out."""
        value = self.take(name)
        if not isinstance(value, str) or value not in choices:
            self.refuse(name, f"be one of {', '.join(map(repr, sorted(choices)))}", value)
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of texts out."""
        value = self.take(name)
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self.refuse(name, "be a list of texts", value)
        return tuple(value)

    def numbers(self, name: str, lengths: Collection[int]) -> list[float]:
        """Take a list of numbers out that has one of some lengths."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) not in lengths or not all(map(is_number, value)):
            self.refuse(name, f"be a list of {' or '.join(map(str, sorted(set(lengths))))} numbers", value)
        return list(value)

    def refuse(self, name: str, rule: str, value: Any) -> Any:
        """Raise for a field that breaks its rule."""
        raise BundleDamagedError(
            f"{self._where}: field {name!r} must {rule}, got {_short(value)}. Copy the folder again from where it was "
            "written."
        )


def read_json(path: Path) -> Any:
    """Read a JSON file of bounded size, in which no number is NaN or infinite.

    Raises
    ------
    BundleDamagedError
        If it is too large or not valid JSON.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise BundleDamagedError(f"{path} has {size} bytes; no manifest is larger than {_MAX_BYTES}.")
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise BundleDamagedError(
            f"{path} is not valid JSON ({error}): the folder is damaged. Copy it again from where it was written."
        ) from error


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number that float32 can hold; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a field occurs twice")
    return content


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
