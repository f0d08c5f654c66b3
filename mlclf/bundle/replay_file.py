"""The rows kept for replay as a file of a saved model: JSON lines, checked when they are read.

The first line says how many rows each kind stands for; each further line is one row::

    {"format": 1, "seen": {"training": 1800, "validation": 200}}
    {"part": "training", "text": "late again", "labels": ["delivery"], "unknown": [], "weight": 1.0}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlclf.datasets.lines import read_lines
from mlclf.exceptions import BundleDamagedError, DataFileError
from mlclf.labels import Label, LabelSpace
from mlclf.replay import KeptRows, ReplayBuffer
from mlclf.rows import Rows
from mlclf.targets import Targets, csr_of_ones

REPLAY_NAME = "replay.jsonl"

Part = Literal["training", "validation"]
PARTS: tuple[Part, ...] = ("training", "validation")
_Name = Annotated[str, Field(strict=True)] | Annotated[int, Field(strict=True)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Header(_Line):
    format: Literal[1]
    seen: dict[Part, Annotated[int, Field(ge=0)]] = Field(min_length=2)


class _Row(_Line):
    part: Part
    text: str
    labels: list[_Name]
    unknown: list[_Name]
    weight: float = Field(ge=0, allow_inf_nan=False)


def write_replay(path: Path, buffer: ReplayBuffer, labels: LabelSpace) -> None:
    """Write the rows kept."""
    kept = {part: getattr(buffer, part) for part in PARTS}
    header = _Header(format=1, seen={part: rows.seen for part, rows in kept.items()})
    with path.open("w", encoding="ascii") as file:
        file.write(json.dumps(header.model_dump()) + "\n")
        for part in PARTS:
            # Escaped to ASCII, in which every str can be written, lone surrogates too.
            file.writelines(json.dumps(row.model_dump()) + "\n" for row in _rows(part, kept[part].rows, labels))


def read_replay(path: Path, labels: LabelSpace) -> ReplayBuffer:
    """Read the rows kept.

    Parameters
    ----------
    path : Path
        Written by :func:`write_replay`; its checksum has been compared before.
    labels : LabelSpace
        Labels of the model.

    Raises
    ------
    BundleDamagedError
        Naming the line that is not one of such a file.
    """
    rows: dict[Part, list[_Row]] = {part: [] for part in PARTS}
    seen = dict.fromkeys(PARTS, 0)
    for number, line in enumerate(_lines(path), start=1):
        try:
            if number == 1:
                seen = _Header.model_validate_json(line).seen
            else:
                row = _checked_row(line, labels)
                rows[row.part].append(row)
        except ValueError as error:
            raise _damaged(f"{path}, line {number}", error) from error
    for part in PARTS:
        if len(rows[part]) > seen[part]:
            raise _damaged(str(path), f"{len(rows[part])} {part} rows are kept of {seen[part]} seen")
    return ReplayBuffer(*(KeptRows(_joined(rows[part], labels), seen[part]) for part in PARTS))


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from read_lines(path)
    except DataFileError as error:
        raise _damaged(str(path), error) from error


def _checked_row(line: str, labels: LabelSpace) -> _Row:
    """Return the row of a line, or raise ValueError."""
    row = _Row.model_validate_json(line)
    for name in (*row.labels, *row.unknown):
        labels.column(name)
    both = set(row.labels) & set(row.unknown)
    if both:
        raise ValueError(f"label {both.pop()!r} both applies and is not known")
    return row


def _rows(part: Part, rows: Rows, labels: LabelSpace) -> Iterator[_Row]:
    unknown: Iterable[Sequence[Label]] = [()] * len(rows)
    if rows.targets.unknown is not None:
        unknown = labels.decode(rows.targets.unknown)
    each = zip(rows.texts, labels.decode(rows.targets.indicator), unknown, rows.weights.tolist(), strict=True)
    for text, names, hidden, weight in each:
        yield _Row(part=part, text=text, labels=list(names), unknown=list(hidden), weight=weight)


def _joined(rows: list[_Row], labels: LabelSpace) -> Rows:
    """Return lines as rows."""
    shape = (len(rows), labels.n_labels)

    def cells(names: list[list[Label]], dtype: type[np.generic]) -> Any:
        pairs = [(number, labels.column(name)) for number, row in enumerate(names) for name in row]
        owners, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return csr_of_ones(owners, columns, shape, dtype)

    unknown = [row.unknown for row in rows]
    targets = Targets(cells([row.labels for row in rows], np.int8), cells(unknown, np.bool_) if any(unknown) else None)
    return Rows([row.text for row in rows], targets, np.array([row.weight for row in rows], dtype=np.float32))


def _damaged(where: str, problem: Exception | str) -> BundleDamagedError:
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    return BundleDamagedError(f"{where}: {str(problem).rstrip('.')}. Copy the folder again from where it was saved.")
