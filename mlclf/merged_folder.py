"""A fitted backbone as an ordinary folder of transformers: merged weights, configuration, tokenizer, prompt files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mlclf.backbones.building import quiet
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.backbones.vocabulary import VocabularyHead
from mlclf.exceptions import ExportError, IncompatibleComponentsError, NotMergeableError, OptionsError
from mlclf.files import check_replaceable, replace_folder
from mlclf.model import Model
from mlclf.network import MultiLabelNetwork
from mlclf.onnx.graph import copy_to_processor

WeightType: TypeAlias = Literal["float32", "bfloat16", "float16"]

# How far outputs of the written folder may be from those of the model, as a share of the largest of them: the
# attention is another function, whose sums are rounded in another order.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# Notes of how the weights were loaded, which are not true of merged ones.
_NOT_OF_MERGED = ("quantization_config", "torch_dtype")
_WRITTEN = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def save_merged(model: Model, folder: str | os.PathLike[str], dtype: WeightType) -> None:
    """Write the backbone of a model, merged, into a folder that transformers loads.

    Parameters
    ----------
    model : Model
        Left as it is.
    folder : path
        To be made; one that is there must be empty.
    dtype : {"float32", "bfloat16", "float16"}
        Of the written weights.

    Raises
    ------
    OptionsError, IncompatibleComponentsError, NotMergeableError
        Before any work.
    ExportError
        If transformers computes something else from the folder.
    """
    target = Path(folder)
    _check(model, dtype)
    check_replaceable(target, ours=False, what="empty")
    documents = model.network.head.prompt_files()
    whole, backbone = _merged(model)
    kind, expected = type(whole), _outputs(whole, backbone)
    with replace_folder(target) as work:
        _write(work, whole.to(getattr(torch, dtype)), backbone, documents)
        # A large model is not kept in memory twice.
        backbone.vocabulary = None
        del whole, backbone.model
        _prove(work, kind, backbone, expected)


def _check(model: Model, dtype: str) -> None:
    """Refuse what cannot be written, before any work."""
    names = model.parts.names
    if dtype not in get_args(WeightType):
        raise OptionsError(f"dtype must be one of {', '.join(map(repr, get_args(WeightType)))}, got {dtype!r}.")
    if not isinstance(model.network.backbone, PretrainedBackbone):
        raise IncompatibleComponentsError(
            f"merge_and_save writes models of transformers, and backbone {names['backbone']!r} is none. "
            "Use save(folder)."
        )
    if model.parts.strategy_capabilities.merge == "no":
        raise NotMergeableError(
            f"Strategy {names['strategy']!r} cannot be merged into plain weights, which is all that transformers and "
            "serving engines load. Use save(folder), or fit with a strategy that merges, such as 'lora'."
        )


def _merged(model: Model) -> tuple[PreTrainedModel, PretrainedBackbone]:
    """Return a merged copy of the model of transformers on the processor, and the backbone that it stands in."""
    # The head stays where it is: a copy of it would only take memory.
    twin = copy_to_processor(MultiLabelNetwork(model.network.backbone, torch.nn.Identity()))  # type: ignore[arg-type]
    twin.float().eval().requires_grad_(False)
    backbone = cast(PretrainedBackbone, twin.backbone)
    model.strategy.merge(backbone)
    plain = cast(PreTrainedModel, backbone.model.float().eval().requires_grad_(False))
    if not isinstance(backbone.vocabulary, VocabularyHead):
        return plain, backbone
    return backbone.vocabulary.whole(plain), backbone


def _write(folder: Path, whole: PreTrainedModel, backbone: PretrainedBackbone, documents: dict[str, Any]) -> None:
    """Write weights, configuration, tokenizer and the head's documents."""
    with quiet():
        whole.save_pretrained(folder)
    backbone.save_files(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in _NOT_OF_MERGED}
    _write_json(path, {**config, "architectures": [type(whole).__name__], "dtype": str(whole.dtype).split(".")[1]})
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(folder, config, backbone))
    for name, content in documents.items():
        if name in _WRITTEN or Path(name).name != name or not name.endswith(".json"):
            raise ExportError(f"The head's document {name!r} needs a name of its own that ends in .json.")
        _write_json(folder / name, content)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tokenizer_config(folder: Path, config: dict[str, Any], backbone: PretrainedBackbone) -> dict[str, Any]:
    """Return what transformers asks of a tokenizer beside ``tokenizer.json``; what the backbone wrote goes first."""
    tokenizer = backbone.encoder.tokenizer
    roles = {}
    for role in ("pad", "bos", "eos", "cls", "sep", "mask"):
        found = config.get(f"{role}_token_id")
        index = found[0] if isinstance(found, list) and found else found  # several tokens may end a text
        token = tokenizer.id_to_token(index) if isinstance(index, int) else None
        if token is not None:
            roles[f"{role}_token"] = token
    length = config.get("max_position_embeddings", backbone.encoder.max_length)
    path = folder / "tokenizer_config.json"
    own = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **roles, **own}


@torch.no_grad()
def _outputs(whole: PreTrainedModel, backbone: PretrainedBackbone) -> Tensor:
    """Return what a model answers to two short texts, where they have tokens."""
    batch = backbone.example_batch()
    output: Any = whole(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    values: Tensor = output.logits if "logits" in output else output.last_hidden_state
    return values[batch.attention_mask.bool()].float()


def _prove(folder: Path, kind: type[PreTrainedModel], backbone: PretrainedBackbone, expected: Tensor) -> None:
    """Raise ExportError where transformers computes something else from the folder than was expected."""
    with quiet():
        again = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, dtype="auto").eval()
    found = _outputs(again, backbone)
    limit = _TOLERANCE[again.dtype] * float(expected.abs().max())
    change = float((found - expected).abs().max())
    if not change <= limit:
        raise ExportError(
            f"transformers computes something else from the merged folder: outputs differ by {change:.3g}, allowed is "
            f"{limit:.3g}. Options of the backbone that change how it computes, such as bidirectional=True, cannot be "
            "written into such a folder. Use save(folder)."
        )
