"""Tokenizers for the two kinds of text in a prompt: what we wrote, and what came from somebody else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlclf.encoding import for_data
from mlclf.prompts.rendering import Piece

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OPENING, _CLOSING = ("<", "["), (">", "]")


class PromptTokens:
    """Encodes prompts, and texts and names as plain characters.

    Nothing in a text or in a label's name becomes a special token, nor one of the markers that tokenizers know without
    calling them special (``<think>``, ``<tool_call>``).

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Left as it is.

    Attributes
    ----------
    opening, closing : tuple of int
        Special tokens that the tokenizer puts before and after a text.
    specials : list of str
        What is a token of its own in a template, and plain characters in a text.

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> tokens = PromptTokens(tiny_tokenizer())
    >>> tokens.opening, tokens.closing
    ((2,), (3,))
    >>> len(tokens.of_template("[SEP]")), len(tokens.of_texts(["[SEP]"])[0])
    (1, 5)
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import Tokenizer as _Tokenizer

        content = json.loads(tokenizer.to_str())
        self.opening, self.closing = _frame(_Tokenizer.from_str(tokenizer.to_str()))
        content["post_processor"] = content["truncation"] = content["padding"] = None
        self._template = _Tokenizer.from_str(json.dumps(content))
        self.unknown: int | None = self._template.token_to_id(str(content["model"].get("unk_token")))
        if content["model"].get("unk_id") is not None:
            self.unknown = int(content["model"]["unk_id"])
        for token in content["added_tokens"]:
            token["special"] = token["special"] or _is_marker(token["content"])
        self.specials = [token["content"] for token in content["added_tokens"] if token["special"]]
        self._text = for_data(_Tokenizer.from_str(json.dumps(content)))

    def looks_special(self, text: str) -> bool:
        """Say whether a text contains what is a special token in a template."""
        return any(special in text for special in self.specials)

    def of_template(self, text: str) -> tuple[int, ...]:
        """Return the ids of what a template wrote; special tokens in it are meant."""
        return tuple(self._template.encode(text, add_special_tokens=False).ids)

    def of_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts, as plain characters."""
        return [encoding.ids for encoding in self._text.encode_batch_fast(list(texts), add_special_tokens=False)]

    def of_pieces(self, pieces: Iterable[Piece]) -> tuple[int, ...]:
        """Return the ids of a part of a prompt."""
        found: list[int] = []
        for piece in pieces:
            found += self.of_texts([piece.text])[0] if piece.is_data else self.of_template(piece.text)
        return tuple(found)

    def decode(self, ids: Sequence[int]) -> str:
        """Return ids in words, special tokens included."""
        text: str = self._template.decode(list(ids), skip_special_tokens=False)
        return text

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        found: int | None = self._template.token_to_id(token)
        return found


def _is_marker(token: str) -> bool:
    """Say whether a token that was added to a vocabulary looks like markup; runs of blanks are text."""
    return token.startswith(_OPENING) and token.endswith(_CLOSING) and len(token) > 2


def _frame(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens before and after a text."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode("a")
    places = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not places:
        return tuple(encoding.ids), ()
    return tuple(encoding.ids[: places[0]]), tuple(encoding.ids[places[-1] + 1 :])
