"""The files of ``static:file``: a table of vectors in safetensors, a tokenizer, a configuration."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from mlclf.exceptions import BackboneLoadError
from mlclf_static.base import TOKENIZER

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# What the table is called: by model2vec, and by the module StaticEmbedding of sentence-transformers.
_TABLES = ("embeddings", "embedding.weight")


@dataclass(frozen=True)
class StaticShape:
    """What has to be known of a folder to make a table without reading it.

    Parameters
    ----------
    n_tokens : int
        Tokens of the tokenizer.
    n_vectors : int
        Rows of the table; fewer than tokens where tokens share vectors.
    hidden : int
        Size of a vector.
    mapped : bool
        Whether there is a row for each token to be looked up.
    weighted : bool
        Whether each token has a weight.
    normalize : bool
        Whether the mean of a text's vectors is given unit length.
    """

    n_tokens: int
    n_vectors: int
    hidden: int
    mapped: bool
    weighted: bool
    normalize: bool

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return asdict(self)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer, without the special tokens that a transformer would want around a text.

    Raises
    ------
    BackboneLoadError
        If there is none.
    """
    try:
        content = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        content["post_processor"] = None
        return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise _unusable(folder, TOKENIZER, error) from error


def left_out_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids that say nothing of a text: padding, and what the tokenizer does not know."""
    model = json.loads(tokenizer.to_str())["model"]
    unknown = tokenizer.token_to_id(model.get("unk_token") or "") if "unk_id" not in model else model["unk_id"]
    named = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    padding = next((number for number in named if number is not None), None)
    return tuple(number for number in (padding, unknown) if number is not None) or (0,)


def read_shape(folder: Path, n_tokens: int) -> StaticShape:
    """Read the shape of the table; of a saved model's folder, from its configuration.

    Raises
    ------
    BackboneLoadError
        If a file is absent, or the table does not have a vector for each token.
    """
    config = _read_config(folder)
    if "shape" in config:
        return StaticShape(**config["shape"])
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise _unusable(folder, WEIGHTS, error) from error
    n_vectors, hidden = shapes[_table_name(folder, shapes)]
    mapped, weighted = "mapping" in shapes, "weights" in shapes
    own = {name: shapes[name][0] for name in ("mapping", "weights") if name in shapes}
    if not mapped:
        own["vectors"] = n_vectors
    for name, count in own.items():
        if count != n_tokens:
            raise BackboneLoadError(
                f"{str(folder / WEIGHTS)!r} has {count} {name} and {TOKENIZER} has {n_tokens} tokens: they are not of "
                "one model. Use a folder as model2vec's save_pretrained writes it."
            )
    return StaticShape(n_tokens, n_vectors, hidden, mapped, weighted, bool(config.get("normalize", False)))


def read_table(folder: Path) -> dict[str, Tensor]:
    """Read the tensors, by the names that :class:`StaticEmbedding` gives them."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        names = set(file.keys())
        found = {"table.weight": file.get_tensor(_table_name(folder, names)).float()}
        if "weights" in names:
            found["weights"] = file.get_tensor("weights").float()
        if "mapping" in names:
            found["mapping"] = file.get_tensor("mapping").long()
    rows = found.get("mapping", torch.zeros(1, dtype=torch.int64))
    if rows.min() < 0 or rows.max() >= len(found["table.weight"]):
        raise BackboneLoadError(f"{str(folder / WEIGHTS)!r}: 'mapping' names vectors that the table does not have.")
    return found


def _table_name(folder: Path, names: Any) -> str:
    for name in _TABLES:
        if name in names:
            return name
    raise BackboneLoadError(
        f"{str(folder / WEIGHTS)!r} has no table of vectors: looked for {' and '.join(map(repr, _TABLES))}, found "
        f"{sorted(names)[:5]}. Use a folder as model2vec's save_pretrained writes it."
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unusable(folder, CONFIG, error) from error
    return content if isinstance(content, dict) else {}


def _unusable(folder: Path, name: str, error: Exception) -> BackboneLoadError:
    return BackboneLoadError(
        f"Backbone 'static:file' cannot read {str(folder / name)!r}: {error}. It needs a local folder with "
        f"{WEIGHTS} and {TOKENIZER}, as model2vec's save_pretrained writes it: StaticOptions(model='folder')."
    )
