"""From a template to the two parts of a prompt: what stands before the text, and what stands after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlclf.exceptions import OptionsError
from mlclf.prompts.options import PromptOptions
from mlclf.prompts.sandbox import render
from mlclf.prompts.wording import WORDINGS, Wording

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChatFormat:
    """How a model was taught to read a conversation; from its files.

    Parameters
    ----------
    template : str or None
        Jinja template of the tokenizer; None where it has none.
    special_tokens : mapping of str to str
        Special tokens by the names that templates use, such as ``"bos_token"``.
    """

    template: str | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """A part of a rendered prompt.

    Parameters
    ----------
    text : str
    is_data : bool
        Whether it is a label's name or description that reads like a special token, and must not become one.
    """

    text: str
    is_data: bool = False


@dataclass(frozen=True)
class Rendered:
    """A prompt without its text.

    Parameters
    ----------
    head, tail : tuple of Piece
        What stands before the text and after it.
    """

    head: tuple[Piece, ...]
    tail: tuple[Piece, ...]


@dataclass(frozen=True)
class LabelLine:
    """What a prompt says of a label."""

    name: str
    description: str = ""


class _Marks:
    """Characters that stand for the text and for single names while a template is rendered.

    They come from Unicode's private use area and occur in nothing that is rendered, so that neither a name nor an
    instruction can pass for the text.
    """

    def __init__(self, said: Sequence[str]) -> None:
        used = set("".join(said))
        self._mark = next(c for c in map(chr, range(0xE000, 0xF8FF)) if c not in used)
        self.text = f"{self._mark}text{self._mark}"
        self._names: dict[str, str] = {}

    def guarded(self, name: str, is_suspicious: Callable[[str], bool]) -> str:
        """Return a stand-in for a name that reads like a special token, and any other name as it is."""
        if not is_suspicious(name):
            return name
        stand_in = f"{self._mark}{len(self._names)}{self._mark}"
        self._names[stand_in] = name
        return stand_in

    def pieces(self, part: str) -> tuple[Piece, ...]:
        """Split a part of the prompt into what the template wrote and the names that stand-ins are for."""
        found = [Piece(part)]
        for stand_in, name in self._names.items():
            found = [piece for old in found for piece in _cut(old, stand_in, name)]
        return tuple(piece for piece in found if piece.text)


def _cut(piece: Piece, stand_in: str, name: str) -> list[Piece]:
    if piece.is_data:
        return [piece]
    first, *others = piece.text.split(stand_in)
    return [Piece(first), *(part for other in others for part in (Piece(name, is_data=True), Piece(other)))]


def render_prompt(
    options: PromptOptions, labels: Sequence[LabelLine], chat: ChatFormat, is_suspicious: Callable[[str], bool]
) -> Rendered:
    """Render a prompt once, with a mark where the text stands, and split it there.

    A text itself is never rendered: nothing in it can be taken for Jinja, and nothing of the prompt depends on it.

    Parameters
    ----------
    options : PromptOptions
    labels : sequence of LabelLine
        What is said of the labels; none leaves the list out.
    chat : ChatFormat
    is_suspicious : callable
        Says whether a name contains what the tokenizer reads as a special token.

    Raises
    ------
    OptionsError
        If the template fails, or does not write the text exactly once and unchanged.
    """
    wording = WORDINGS[options.language]
    system = wording.system if options.system is None else options.system
    instruction = options.instruction or wording.instruction
    marks = _Marks([system, instruction, *(word for line in labels for word in (line.name, line.description))])
    values = {
        "system": system,
        "instruction": instruction,
        "text": marks.text,
        "labels": [
            {
                "name": marks.guarded(line.name, is_suspicious),
                "description": marks.guarded(line.description, is_suspicious),
            }
            for line in labels
        ],
    }
    kind = settled_template(options, chat)
    whole = _render_chat(values, wording, chat) if kind == "chat" else _render_plain(kind, values, wording)
    parts = whole.split(marks.text)
    if len(parts) != 2:
        raise OptionsError(
            f"The prompt template writes the text {len(parts) - 1} times; it must stand there once and unchanged. "
            "Write {{ text }} once, without filters."
        )
    return Rendered(marks.pieces(parts[0]), marks.pieces(parts[1]))


def settled_template(options: PromptOptions, chat: ChatFormat) -> str:
    """Return the template's name or source, with ``"auto"`` settled.

    Raises
    ------
    OptionsError
        If a chat is asked for and the tokenizer has no chat template.
    """
    if options.template == "auto":
        return "plain" if chat.template is None else "chat"
    if options.template == "chat" and chat.template is None:
        raise OptionsError(
            "PromptOptions(template='chat'): the model's tokenizer has no chat template. Use template='plain', or give "
            "a Jinja template of your own."
        )
    return options.template


def _render_plain(kind: str, values: dict[str, Any], wording: Wording) -> str:
    source = wording.plain if kind == "plain" else kind
    return render(source, values, strict=True, name="The prompt template")


def _render_chat(values: dict[str, Any], wording: Wording, chat: ChatFormat) -> str:
    """Render the message of the user, and the conversation around it up to the answer."""
    message = render(wording.message, values, strict=True, name="The prompt template")
    user = [{"role": "user", "content": message}]
    if not values["system"]:
        return _conversation(user, chat)
    try:
        return _conversation([{"role": "system", "content": values["system"]}, *user], chat)
    except OptionsError as error:
        # Some models (Gemma) were taught no system message, and their templates refuse one.
        logger.info("The chat template takes no system message; it stands before the user's: %s", error)
        return _conversation([{"role": "user", "content": f"{values['system']}\n\n{message}"}], chat)


def _conversation(messages: list[dict[str, str]], chat: ChatFormat) -> str:
    values = {
        **chat.special_tokens,
        "messages": messages,
        "add_generation_prompt": True,
        "enable_thinking": False,  # what Qwen3's template asks for: the answer comes at once
    }
    return render(chat.template or "", values, strict=False, name="The tokenizer's chat template")
