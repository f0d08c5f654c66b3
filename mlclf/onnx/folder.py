"""Files of an exported folder: which there may be, their checksums, and no way out of the folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlclf.exceptions import BundleDamagedError
from mlclf.files import sha256
from mlclf.onnx.entries import FileEntry

MANIFEST_NAME = "manifest.json"
GRAPH_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
TOKENIZER_NAME = "tokenizer.json"
README_NAME = "README.md"

# No other name is ever read, so that no manifest can point outside its folder.
REQUIRED = (GRAPH_NAME, TOKENIZER_NAME)
ALLOWED = (*REQUIRED, WEIGHTS_NAME, README_NAME)

# Files of these kinds that the manifest does not list were not exported with the model.
_GUARDED = (".json", ".onnx", ".data")


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Return checksum and size of each file of a new folder that a manifest lists.

    Parameters
    ----------
    folder : Path
        Holds the graph, the tokenizer and, perhaps, weights and README.

    Returns
    -------
    dict of str to FileEntry
    """
    paths = [folder / name for name in ALLOWED if (folder / name).is_file()]
    return {path.name: FileEntry(sha256(path), path.stat().st_size) for path in paths}


def check_files(folder: Path, files: Mapping[str, FileEntry]) -> None:
    """Compare every file with its checksum, and refuse links out of the folder and graphs that nobody listed.

    Parameters
    ----------
    folder : Path
    files : mapping of str to FileEntry
        As the manifest has them.

    Raises
    ------
    BundleDamagedError
        Naming the first file that is missing, altered, linked, not listed or not allowed.
    """
    for name in files:
        if name not in ALLOWED:
            raise BundleDamagedError(
                f"The manifest of {str(folder)!r} lists {name!r}, which is no file of an exported model: these are "
                f"{', '.join(ALLOWED)}."
            )
    for name in REQUIRED:
        if name not in files:
            raise BundleDamagedError(f"The manifest of {str(folder)!r} lists no {name!r}, which every model has.")
    _refuse_unlisted(folder, files)
    for name, entry in files.items():
        path = inside(folder, name)
        if path.stat().st_size != entry.bytes or sha256(path) != entry.sha256:
            raise BundleDamagedError(
                f"{path} was altered or truncated: its SHA-256 differs from the manifest's. Copy the folder again from "
                "where it was exported."
            )


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file, which must exist and lie in the folder itself.

    Links within the folder are followed, as container platforms mount volumes with them.

    Raises
    ------
    BundleDamagedError
        If the file is missing, or is a link out of the folder.
    """
    path = folder / name
    if not path.is_file():
        raise BundleDamagedError(f"{path} is missing: the exported model is incomplete. Copy the whole folder again.")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleDamagedError(
            f"{path} is a link to {path.resolve()}, outside the folder. Copy the folder with its files: cp -rL."
        )
    return path


def _refuse_unlisted(folder: Path, files: Mapping[str, FileEntry]) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix in _GUARDED and path.is_file() and path.name not in (*files, MANIFEST_NAME):
            raise BundleDamagedError(
                f"{path} is not listed in the manifest: it was not exported with this model. Remove it."
            )
