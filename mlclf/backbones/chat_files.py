"""How a model reads conversations: its chat template and the names of its special tokens, read as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mlclf.exceptions import BackboneLoadError

_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_SPECIAL = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def read_chat_template(folder: Path) -> str | None:
    """Return the source of a folder's chat template, or None where there is none.

    It is text here; what renders it must do so in a sandbox. Nothing else is taken from these files, and nothing in
    them is followed.

    Parameters
    ----------
    folder : Path
        With ``chat_template.jinja``, or ``tokenizer_config.json`` whose key ``chat_template`` is a template, or a list
        of named ones, of which ``"default"`` is taken.

    Raises
    ------
    BackboneLoadError
        If a file is no text or no JSON object.
    """
    path = folder / _TEMPLATE
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BackboneLoadError(f"{str(path)!r} is no text in UTF-8: {error}.") from error
    found = _tokenizer_config(folder).get("chat_template")
    if isinstance(found, list):
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def read_special_tokens(folder: Path, tokenizer: Tokenizer, config: dict[str, Any]) -> dict[str, str]:
    """Return special tokens by the names that chat templates use.

    Parameters
    ----------
    folder : Path
    tokenizer : tokenizers.Tokenizer
        Only tokens that it knows are returned.
    config : dict
        The model's ``config.json``, whose ids are taken where the tokenizer's files name no first or last token.
    """
    values = _tokenizer_config(folder)
    named = {name: _content(values.get(name)) for name in _SPECIAL}
    for name in ("bos_token", "eos_token"):
        if named[name] is None:
            number = config.get(f"{name}_id")
            number = number[0] if isinstance(number, list) and number else number
            named[name] = tokenizer.id_to_token(number) if isinstance(number, int) and number >= 0 else None
    return {name: text for name, text in named.items() if text and tokenizer.token_to_id(text) is not None}


def write_chat_files(folder: Path, template: str | None, special_tokens: dict[str, str]) -> None:
    """Write what :func:`read_chat_template` and :func:`read_special_tokens` read; nothing for a plain encoder."""
    if template is None and special_tokens.keys().isdisjoint({"bos_token", "eos_token"}):
        return
    values = special_tokens if template is None else {**special_tokens, "chat_template": template}
    content = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / _CONFIG).write_text(content + "\n", encoding="utf-8")


def _content(value: Any) -> str | None:
    """Return a token's text, which stands there alone or with how it is matched."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackboneLoadError(f"{str(path)!r} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise BackboneLoadError(f"{str(path)!r} holds no JSON object.")
    return values
