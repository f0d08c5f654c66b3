"""What a graph file refers to outside itself, read from its bytes.

Weights above 2 GB stand beside the graph, in a file that the graph names. A graph from elsewhere may name any file of
the machine. Versions of onnxruntime before 1.24 open it; so the names are looked at before the graph is loaded. The
protobuf wire format is simple enough to walk without the package ``onnx``, and a large tensor is skipped, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlclf.exceptions import BundleDamagedError
from mlclf.onnx.folder import WEIGHTS_NAME

# Field numbers of onnx.proto3 that lead to tensors, by message: number -> message inside.
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 60


def check_references(path: Path) -> None:
    """Refuse a graph that takes weights from another file than the one beside it.

    Parameters
    ----------
    path : Path
        The graph.

    Raises
    ------
    BundleDamagedError
        If the file is no graph, or names another file.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise BundleDamagedError(f"{path} is empty. Copy the folder again from where it was exported.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                foreign = [name for name in _locations(data, 0, len(data), "model", 0) if name != WEIGHTS_NAME]
            except (IndexError, ValueError) as error:
                raise BundleDamagedError(f"{path} is no ONNX graph ({error}). Copy the folder again.") from error
    if foreign:
        raise BundleDamagedError(
            f"{path} takes weights from {foreign[0]!r}; an exported graph takes them from {WEIGHTS_NAME!r} alone. Do "
            "not use this folder."
        )


def _locations(data: mmap.mmap, start: int, stop: int, message: str, depth: int) -> Iterator[str]:
    """Yield the file names in the tensors of one message."""
    if depth > _DEEPEST:
        raise ValueError("its parts are nested too deeply")
    inside = _INSIDE[message]
    for number, first, last in _parts(data, start, stop):
        if number not in inside:
            continue
        if inside[number] == "entry":
            yield from _location(data, first, last)
        else:
            yield from _locations(data, first, last, inside[number], depth + 1)


def _location(data: mmap.mmap, start: int, stop: int) -> list[str]:
    """Return the value of a (key, value) pair whose key is "location"."""
    pair = {number: data[first:last] for number, first, last in _parts(data, start, stop)}
    return [pair.get(_VALUE, b"").decode("utf-8", "replace")] if pair.get(_KEY) == b"location" else []


def _parts(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and stop of every field of a message that holds bytes."""
    while start < stop:
        tag, start = _varint(data, start, stop)
        kind = tag & 7
        if kind == _BYTES:
            length, start = _varint(data, start, stop)
            if start + length > stop:
                raise ValueError("it is cut short")
            yield tag >> 3, start, start + length
            start += length
        elif kind == _VARINT:
            _, start = _varint(data, start, stop)
        elif kind in (_FIXED32, _FIXED64):
            start += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("its bytes are no protobuf message")


def _varint(data: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = shift = 0
    while start < stop and shift < 70:
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
    raise ValueError("it is cut short")
