"""Prompt: token ids before and after a text, of which only the text is ever cut."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlclf.encoding import EncodedTexts
from mlclf.exceptions import OptionsError
from mlclf.prompts.options import LabelList, PromptOptions
from mlclf.prompts.rendering import ChatFormat, LabelLine, Rendered, render_prompt
from mlclf.prompts.tokens import PromptTokens

logger = logging.getLogger(__name__)

# A prompt that leaves less than this is a mistake.
_FEWEST_TEXT_TOKENS = 8
# Words without punctuation at their ends, which a tokenizer may join with what follows.
_PROBES = {"en": "A short text to try it on", "zh": "一段用来试一试的短文本"}
_CHUNK = 4096


@dataclass(frozen=True)
class PromptText:
    """What a prompt is made for.

    Parameters
    ----------
    names : tuple of str
        The labels.
    max_length : int
        Tokens that the model reads at once.
    reserved : int
        Tokens of these that the answer may take.
    """

    names: tuple[str, ...]
    max_length: int
    reserved: int = 0


class Prompt:
    """A prompt as token ids: head, text, tail.

    Parameters
    ----------
    tokens : PromptTokens
    head, tail : tuple of int
        Ids before and after a text, special tokens of the tokenizer included.
    room : int
        Tokens of a text that fit.
    listed : {"descriptions", "names", "none"}
        What is said of the labels.
    """

    def __init__(
        self, tokens: PromptTokens, head: tuple[int, ...], tail: tuple[int, ...], room: int, listed: LabelList
    ) -> None:
        self.tokens, self.head, self.tail, self.room, self.listed = tokens, head, tail, room, listed

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Return the ids of texts alone, each cut to the room that the prompt leaves; one window a text."""
        ids, lengths = array("i"), [0]
        for start in range(0, len(texts), _CHUNK):
            for row in self.tokens.of_texts(texts[start : start + _CHUNK]):
                ids.fromlist(row[: self.room])
                lengths.append(min(len(row), self.room))
        return EncodedTexts(
            ids=np.array(ids, dtype=np.int32),
            window_offsets=np.cumsum(np.array(lengths, dtype=np.int64)),
            sample_offsets=np.arange(len(lengths), dtype=np.int64),
        )


def make_prompt(options: PromptOptions, about: PromptText, tokens: PromptTokens, chat: ChatFormat) -> Prompt:
    """Render a prompt for some labels and turn it into token ids.

    Parameters
    ----------
    options : PromptOptions
    about : PromptText
        Labels and lengths.
    tokens : PromptTokens
        Of the model's tokenizer.
    chat : ChatFormat

    Returns
    -------
    Prompt

    Raises
    ------
    OptionsError
        If the template cannot be used, names labels that do not exist, or leaves no room for a text.

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> options = PromptOptions(template="{{ labels[0].name }}: {{ text }}?", labels="names")
    >>> tokens = PromptTokens(tiny_tokenizer())
    >>> prompt = make_prompt(options, PromptText(("cat",), max_length=64), tokens, ChatFormat())
    >>> len(prompt.head), len(prompt.tail), prompt.encode(["a dog", ""]).sample_lengths.tolist()
    (3, 1, [2, 0])
    """
    check_descriptions(options, about.names)
    listed, rendered = _fitting(options, about, tokens, chat)
    head, tail = _ids(rendered, tokens, _PROBES[options.language])
    room = about.max_length - about.reserved - len(head) - len(tail)
    if room < _FEWEST_TEXT_TOKENS:
        raise OptionsError(
            f"The prompt takes {len(head) + len(tail)} of {about.max_length} tokens and the answer up to "
            f"{about.reserved}, which leaves {room} for the text; at least {_FEWEST_TEXT_TOKENS} are needed. Use a "
            "larger max_length of the backbone, a shorter instruction, or PromptOptions(labels='none')."
        )
    return Prompt(tokens, head, tail, room, listed)


def check_descriptions(options: PromptOptions, names: Sequence[str]) -> None:
    """Raise OptionsError where a description is that of no label."""
    unknown = sorted(set(options.descriptions or {}) - set(names))
    if unknown:
        raise OptionsError(
            f"PromptOptions(descriptions=...) describes {unknown[0]!r}, which is no label. Use the names of the labels."
        )


def _lines(options: PromptOptions, names: Sequence[str], listed: LabelList) -> list[LabelLine]:
    if listed == "none":
        return []
    known = options.descriptions or {} if listed == "descriptions" else {}
    return [LabelLine(name, known.get(name, "")) for name in names]


def _candidates(options: PromptOptions) -> Iterator[LabelList]:
    """Yield what may be said of the labels, the most of it first."""
    if options.labels != "auto":
        yield options.labels
        return
    if options.descriptions:
        yield "descriptions"
    yield from ("names", "none")


def _fitting(
    options: PromptOptions, about: PromptText, tokens: PromptTokens, chat: ChatFormat
) -> tuple[LabelList, Rendered]:
    """Render the prompt with as much about the labels as fits into their share of the tokens."""

    def rendered(listed: LabelList) -> Rendered:
        return render_prompt(options, _lines(options, about.names, listed), chat, tokens.looks_special)

    candidates = list(_candidates(options))
    if len(candidates) == 1:
        return candidates[0], rendered(candidates[0])
    budget, bare = int(options.label_share * about.max_length), rendered("none")
    for listed in candidates[:-1]:
        found = rendered(listed)
        taken = _length(found, tokens) - _length(bare, tokens)
        if taken <= budget:
            return listed, found
        logger.info(
            "The labels' %s would take %d tokens of the prompt, and %d are set aside for them (label_share=%g).",
            listed, taken, budget, options.label_share,
        )  # fmt: skip
    logger.info("The prompt does not list the %d labels: the answer is held to them all the same.", len(about.names))
    return "none", bare


def _length(rendered: Rendered, tokens: PromptTokens) -> int:
    return len(tokens.of_pieces(rendered.head)) + len(tokens.of_pieces(rendered.tail))


def _ids(rendered: Rendered, tokens: PromptTokens, probe: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return head and tail as ids that, with a text between them, read as the whole string would.

    Some tokenizers put a mark before the first word of whatever they are given (SentencePiece), and would put it before
    the tail as well. Where a tail is tokenised otherwise behind a text, these ids are taken. What is left is said.
    """
    head, text = tokens.of_pieces(rendered.head), tuple(tokens.of_texts([probe])[0])
    behind = tokens.of_template(probe + "".join(piece.text for piece in rendered.tail))
    plain = not any(piece.is_data for piece in (*rendered.head, *rendered.tail))
    tail = behind[len(text) :] if plain and behind[: len(text)] == text else tokens.of_pieces(rendered.tail)
    before, after = ("".join(piece.text for piece in part) for part in (rendered.head, rendered.tail))
    if plain and tokens.of_template(before + probe + after) != (*head, *text, *tail):
        logger.warning(
            "This tokenizer reads a text in the middle of the prompt otherwise than by itself. Head, text and tail are "
            "tokenised apart, in training as in prediction, so that no text can change the prompt around it. Only a "
            "model that is used without training may notice."
        )
    if head[: len(tokens.opening)] != tokens.opening:
        head = tokens.opening + head
    return head, tail
