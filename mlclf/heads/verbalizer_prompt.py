"""Cloze prompts: a template with a place for the text and one for the hidden word, as token ids around each text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlclf.encoding import MASK_TOKENS, TextEncoder, find_mask_id, for_data
from mlclf.exceptions import IncompatibleComponentsError, OptionsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXT, MASK = "{text}", "{mask}"

# A template that leaves less than this of a row is a mistake.
_FEWEST_TEXT_TOKENS = 8
# Stands for whatever is in front, where a tokenizer reads what follows a word otherwise than the start of a text.
_WORD = "a"


def check_template(template: str) -> str:
    """Return a template that has one place for the text and one for the hidden word.

    Raises
    ------
    ValueError
        If a place is missing, there twice, or another one is named.

    Examples
    --------
    >>> check_template("{text} It is about {mask}.")
    '{text} It is about {mask}.'
    """
    places = re.findall(r"\{.*?\}", template)
    if sorted(places) != sorted((TEXT, MASK)):
        raise ValueError(f"must hold {TEXT} once and {MASK} once, and no other braces, got {template!r}")
    return template


@dataclass(frozen=True)
class ClozePrompt:
    """A template in the tokens of one tokenizer.

    Parameters
    ----------
    encoder : TextEncoder
        Puts the prompt around each window of a text; of these, only the text is ever cut.
    place : int
        Position of the hidden word, counted from a row's first token; where it is negative, from the last one, which is
        -1.
    context : str
        What stands before the hidden word in the template.
    """

    encoder: TextEncoder
    place: int
    context: str


def words_in_place(tokenizer: Tokenizer, context: str, words: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the ids of words as they would be tokenised in the place of the hidden one.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The backbone's.
    context : str
        What stands before the hidden word.
    words : sequence of str

    Raises
    ------
    OptionsError
        If the tokenizer does not know some of a word.

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> [len(ids) for ids in words_in_place(tiny_tokenizer(), "a It is about ", ["rain", "storms"])]
    [1, 2]
    """
    tokenizer = _without_limits(tokenizer)
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    before = context.rstrip()
    blank = " " if before != context else ""
    found = [_in_place(tokenizer, before, blank + word.strip()) for word in words]
    for word, ids in zip(words, found, strict=True):
        if not ids or not special.isdisjoint(ids):
            raise OptionsError(
                f"The label word {word!r} has characters that the backbone's tokenizer does not know. Give one that it "
                "knows: VerbalizerOptions(words={label: [word, ...]})."
            )
    return found


def make_cloze(template: str, encoder: TextEncoder, name: str) -> ClozePrompt:
    """Turn a template into token ids around each text.

    The prompt becomes part of a copy of the tokenizer, as the special tokens before and after a text are. So whatever
    encodes texts with that tokenizer, an exported model too, puts the prompt around them, and cuts nothing else.

    Parameters
    ----------
    template : str
        Checked by :func:`check_template`. What stands in it is read as plain characters.
    encoder : TextEncoder
        The backbone's.
    name : str
        What the backbone is called in errors.

    Returns
    -------
    ClozePrompt

    Raises
    ------
    IncompatibleComponentsError
        If the tokenizer has no mask token.
    OptionsError
        If the template leaves no room for a text.

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> prompt = make_cloze("{text} a {mask} day", TextEncoder(tiny_tokenizer(), max_length=32), "bert")
    >>> [tiny_tokenizer().id_to_token(i) for i in prompt.encoder.encode(["the cat"]).ids]
    ['[CLS]', 'the', 'cat', 'a', '[MASK]', 'day', '[SEP]']
    >>> prompt.place
    -3
    """
    tokenizer = _without_limits(encoder.tokenizer)
    mask = find_mask_id(tokenizer)
    if mask is None:
        raise IncompatibleComponentsError(
            f"Head 'verbalizer' reads what the model expects in the place of a hidden word, and the tokenizer of "
            f"backbone {name!r} has no token for it (looked for {', '.join(MASK_TOKENS)}). Use a masked language "
            "model, such as BertOptions(model='google-bert/bert-base-uncased'), or another head."
        )
    before, after = template.split(TEXT)
    opening, closing = _frame(tokenizer)
    head = (*opening, *_part(tokenizer, mask, before, ""))
    tail = (*_part(tokenizer, mask, after, _WORD), *closing)
    room = encoder.max_length - len(head) - len(tail)
    if room < _FEWEST_TEXT_TOKENS:
        raise OptionsError(
            f"The template {template!r} takes {len(head) + len(tail)} of the {encoder.max_length} tokens that are read "
            f"at once, which leaves {room} for the text; at least {_FEWEST_TEXT_TOKENS} are needed. Use a shorter "
            "template, or a larger max_length of the backbone."
        )
    in_front = MASK in before
    _surround(tokenizer, head, tail, spaced=before != before.rstrip())
    return ClozePrompt(
        encoder=TextEncoder(tokenizer, encoder.max_length, encoder.window_stride),
        place=head.index(mask, len(opening)) if in_front else tail.index(mask) - len(tail),
        context=(before if in_front else _WORD + after).split(MASK)[0],
    )


def _without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that takes special tokens as text and cuts nothing."""
    copy = for_data(tokenizer)
    copy.no_truncation()
    copy.no_padding()
    return copy


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    encoding = tokenizer.encode(_WORD)
    own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]


def _part(tokenizer: Tokenizer, mask: int, part: str, context: str) -> list[int]:
    """Return the ids of what stands on one side of the text.

    Blanks before a place belong to what comes there: a tokenizer that marks the starts of words marks it.
    """
    left, place, right = part.partition(MASK)
    ids = list(_in_place(tokenizer, context, left.rstrip()))
    return [*ids, mask, *_in_place(tokenizer, _WORD, right.rstrip())] if place else ids


def _in_place(tokenizer: Tokenizer, context: str, text: str) -> tuple[int, ...]:
    """Return the ids of a text behind another one; where the two share a token, those of the text alone."""
    before = tokenizer.encode(context, add_special_tokens=False).ids
    both = tokenizer.encode(context + text, add_special_tokens=False).ids
    if both[: len(before)] == before:
        return tuple(both[len(before) :])
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def _surround(tokenizer: Tokenizer, head: Sequence[int], tail: Sequence[int], *, spaced: bool) -> None:
    """Have a tokenizer put ids around every text, and a blank before it where the template has one."""
    from tokenizers import normalizers, processors

    named = {"prompt-head": list(head), "prompt-tail": list(tail)}
    used = {name: ids for name, ids in named.items() if ids}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*(n for n in used if n == "prompt-head"), "$A", *(n for n in used if n == "prompt-tail")],
        special_tokens=[
            {"id": name, "ids": ids, "tokens": [tokenizer.id_to_token(i) for i in ids]} for name, ids in used.items()
        ],
    )
    if spaced:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(" "), *own])
