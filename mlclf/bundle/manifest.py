"""Manifest: what a saved folder says about itself, checked field by field when it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlclf.exceptions import BundleDamagedError, BundleError, BundleVersionError
from mlclf.files import check_replaceable, sha256
from mlclf.plugins.spec import PART_KINDS, Kind

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
# The model card: for people, never read, and theirs to change. So it has no checksum.
CARD_NAME = "README.md"

# Stands where a strategy's name does if several form a chain; no component can have it, as it is not registered.
CHAIN_NAME = "chain"

# Every file that a bundle may hold beside its manifest. Names outside the list are refused, so that no manifest can
# point outside its folder.
_FILE_NAME = re.compile(r"(backbone/)?[a-z_]+\.(safetensors|json|txt|model)|replay\.jsonl")

_REQUIRED = frozenset({"strategy.safetensors", "head.safetensors"})


Document = TypeVar("Document", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ComponentEntry(_Part):
    """A component by its registered name, with its options as JSON."""

    name: str = Field(max_length=100)
    options: dict[str, Any]


class ChainEntry(_Part):
    """Options of a chain of strategies: its parts, which are no chains themselves."""

    parts: list[ComponentEntry] = Field(min_length=2, max_length=20)


class CalibratorEntry(ComponentEntry):
    """The calibrator, whose state is a file of its own."""

    n_labels: int = Field(ge=1)


class PlattEntry(_Part):
    """The calibrator as version 0.1 wrote it."""

    scale: list[float]
    offset: list[float]


class SourceEntry(_Part):
    """Where the backbone's pretrained weights came from."""

    kind: Literal["hub", "folder", "package", "none"]
    name: str
    revision: str | None = None
    sha256: dict[str, str] = {}


class ReplayEntry(_Part):
    """How many rows are kept for further training."""

    share: float = Field(ge=0, le=1)
    max_rows: int = Field(ge=1)


class FormatEntry(_Part):
    """Form in which labels came in and ``predict`` answers."""

    kind: Literal["rows", "array", "frame", "sparse-array", "sparse-matrix"]
    dtype: Literal[
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "float32", "float64"
    ]


class FileEntry(_Part):
    """Checksum and size of a file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(_Part):
    """Content of ``manifest.json``.

    Parameters
    ----------
    format_version : int
        Version of this layout.
    mlclf : str
        Version that wrote the folder.
    components : dict of str to ComponentEntry
        ``backbone``, ``strategy`` and ``head``. A chain of strategies has the name ``chain``, and in its options the
        names and options of its parts.
    uses : dict of str to list of str
        Names of further components by kind: losses, calibrator and augmentations, which options choose.
    plugins : list of dict
        Plugins that the components come from.
    labels : list of str or int
        Label names in column order.
    y_format : FormatEntry
        Form in which ``predict`` answers.
    positives, known : list of int
        Label counts of the training rows.
    thresholds : dict
    calibrator : CalibratorEntry, PlattEntry or None
    training : dict
        Training options.
    replay : ReplayEntry or None
        How many rows were to be kept for further training; None in the manifest of an earlier version.
    history, metrics : dict
        How training went, and the report on the validation rows.
    backbone_weights : {"included", "external"}
        Whether the folder holds every weight, or the pretrained ones come from ``source``.
    source : SourceEntry
    versions : dict of str to str
        Packages used for training.
    files : dict of str to FileEntry
        Every other file of the folder.
    """

    format_version: int
    mlclf: str
    components: dict[Kind, ComponentEntry]
    uses: dict[Kind, list[str]] = {}
    plugins: list[Mapping[str, Any]]
    labels: list[Annotated[str, Field(strict=True)] | Annotated[int, Field(strict=True)]] = Field(min_length=1)
    y_format: FormatEntry
    positives: list[int]
    known: list[int]
    thresholds: dict[str, Any]
    calibrator: CalibratorEntry | PlattEntry | None
    training: dict[str, Any]
    replay: ReplayEntry | None = None
    history: dict[str, Any]
    metrics: dict[str, Any]
    backbone_weights: Literal["included", "external"]
    source: SourceEntry
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _one_count_a_label(self) -> Manifest:
        if not len(self.labels) == len(self.positives) == len(self.known):
            counts = f"{len(self.labels)}, {len(self.positives)} and {len(self.known)}"
            raise ValueError(f"labels, positives and known have {counts} entries")
        return self

    @field_validator("components")
    @classmethod
    def _whole(cls, components: dict[Kind, ComponentEntry]) -> dict[Kind, ComponentEntry]:
        """Refuse a missing component, and a chain whose parts are not two or more names with options."""
        if set(components) != set(PART_KINDS):
            raise ValueError(f"there must be {', '.join(PART_KINDS)}")
        try:
            _parts_of(components["strategy"])
        except ValidationError:
            raise ValueError("the parts of the chain of strategies are not names with options") from None
        return components

    def entries(self) -> dict[Kind, tuple[ComponentEntry, ...]]:
        """Return the components of each kind: one, or the parts of a chain of strategies."""
        return {kind: _parts_of(entry) for kind, entry in self.components.items()}

    def names(self) -> dict[Kind, tuple[str, ...]]:
        """Return the names of all components that the model needs, by kind."""
        parts = {kind: tuple(entry.name for entry in entries) for kind, entries in self.entries().items()}
        return {**parts, **{kind: tuple(names) for kind, names in self.uses.items()}}


def _parts_of(entry: ComponentEntry) -> tuple[ComponentEntry, ...]:
    """Return the entries that an entry stands for."""
    return tuple(ChainEntry.model_validate(entry.options).parts) if entry.name == CHAIN_NAME else (entry,)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a saved folder, and the checksums of its files.

    Raises
    ------
    BundleError
        If the folder holds no manifest.
    BundleVersionError
        If the format is newer than this version of mlclf knows.
    BundleDamagedError
        If the manifest or a file is missing, truncated or altered.
    """
    manifest = read_document(folder / MANIFEST_NAME, Manifest, FORMAT_VERSION)
    check_files(folder, manifest)
    return manifest


def read_document(path: Path, layout: type[Document], version: int) -> Document:
    """Read a file of JSON that describes a saved folder, and check its version and fields.

    Parameters
    ----------
    path : Path
    layout : type
        Pydantic model of its content.
    version : int
        The ``format_version`` that is understood.

    Raises
    ------
    BundleError, BundleVersionError, BundleDamagedError
        As :func:`read_manifest` does.
    """
    if not path.is_file():
        raise BundleError(
            f"{str(path.parent)!r} is not a saved model: it has no {path.name}. Give the folder that save() wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleDamagedError(
            f"{path} is not valid JSON ({error}): the folder is damaged. Copy it again."
        ) from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != version:
        raise BundleVersionError(
            f"{path} has format_version {found!r}; this version of mlclf reads {version}. "
            "Load it with the version of mlclf that saved it, or a newer one."
        )
    try:
        return layout.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleDamagedError(
            f"{path}: field {where!r} is wrong ({first['msg']}): the folder is damaged."
        ) from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file of a bundle with its checksum, and refuse tensors and configurations that have none.

    Raises
    ------
    BundleDamagedError
        Naming the first file that is missing, altered, not listed or not allowed.
    """
    check_listed(folder, manifest.files, allowed=_FILE_NAME, beside=MANIFEST_NAME)
    missing = sorted(_REQUIRED - set(manifest.files))
    if missing:
        raise BundleDamagedError(f"The manifest of {str(folder)!r} lists no {missing[0]!r}, which every model has.")


def check_listed(folder: Path, files: Mapping[str, FileEntry], *, allowed: re.Pattern[str], beside: str) -> None:
    """Compare the files of a folder with a list of checksums.

    Parameters
    ----------
    folder : Path
    files : mapping of str to FileEntry
        By name in the folder.
    allowed : re.Pattern
        What a name may be, whole.
    beside : str
        Name of the file that holds the list.

    Raises
    ------
    BundleDamagedError
        Naming the first file that is missing, altered, not listed or not allowed.
    """
    found = {
        path.relative_to(folder).as_posix()
        for ending in ("json", "jsonl", "safetensors")
        for path in folder.rglob(f"*.{ending}")
    }
    unlisted = sorted(found - set(files) - {beside})
    if unlisted:
        raise BundleDamagedError(
            f"{folder / unlisted[0]} is not listed in the manifest: it was not saved with this model. Remove it."
        )
    for name, entry in files.items():
        if not allowed.fullmatch(name):
            raise BundleDamagedError(
                f"The manifest of {str(folder)!r} lists {name!r}, which is no file of a saved model."
            )
        path = folder / name
        if not path.is_file():
            raise BundleDamagedError(f"{path} is missing: the saved model is incomplete. Copy the whole folder again.")
        if path.stat().st_size != entry.bytes or sha256(path) != entry.sha256:
            raise BundleDamagedError(
                f"{path} was altered or truncated: its SHA-256 differs from the manifest's. Copy the folder again from "
                "where it was saved."
            )


def check_target(folder: Path) -> None:
    """Refuse to replace what is not a saved model.

    Raises
    ------
    OptionsError
        If the folder is there, not empty, and no saved model.
    """
    check_replaceable(folder, ours=(folder / MANIFEST_NAME).is_file(), what="a saved model")


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Return checksum and size of every file in a folder, but for model cards."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(sha256=sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CARD_NAME
    }
