"""Label names as token ids, each by itself: what an answer is put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlclf.exceptions import OptionsError
from mlclf.prompts.tokens import PromptTokens

# A line break first: tokenizers join commas and the like with the word beside them, in answers but not in parts.
_SEPARATORS = ("\n", ";", ",", "|", " ")
_PREFIXES = ("", " ")


@dataclass(frozen=True)
class LabelTokens:
    """The token ids of all labels.

    Parameters
    ----------
    paths : tuple of tuple of int, length n_labels
        Ids of each label, closed by the separator. No path is the beginning of another one.
    end : int
        Id that ends an answer.
    prefix : str
        What stands before each name in front of the tokenizer.
    """

    paths: tuple[tuple[int, ...], ...]
    end: int
    prefix: str


def label_tokens(names: Sequence[str], tokens: PromptTokens, eos_token: str | None) -> LabelTokens:
    """Tokenise each name by itself and close it.

    A list of labels is never tokenised as one string: a tokenizer may join the end of a name with what follows, so that
    the same label would have other ids beside other labels.

    Parameters
    ----------
    names : sequence of str
    tokens : PromptTokens
    eos_token : str or None
        The model's last token of an answer; without one, an empty name ends it.

    Raises
    ------
    OptionsError
        If two labels have the same ids, or one begins with the other's, naming both.

    Examples
    --------
    >>> from mlclf.testing import tiny_tokenizer
    >>> found = label_tokens(["cat", "dog"], PromptTokens(tiny_tokenizer("bpe")), "</s>")
    >>> [len(path) for path in found.paths], found.end
    ([2, 2], 2)
    """
    closing = _separator(tokens)
    end = None if eos_token is None else tokens.token_to_id(eos_token)
    # The prefix under which names are the fewest tokens is the one that they mostly had in running text.
    spelled = {prefix: tokens.of_texts([prefix + name for name in names]) for prefix in _PREFIXES}
    prefix = min(_PREFIXES, key=lambda prefix: sum(map(len, spelled[prefix])))
    paths = tuple((*ids, closing) for ids in spelled[prefix])
    found = LabelTokens(paths, closing if end is None else end, prefix)
    _check_apart(names, found)
    return found


def _separator(tokens: PromptTokens) -> int:
    """Return the id of a line break, or of the first sign after it that the tokenizer knows."""
    for ids in tokens.of_texts(_SEPARATORS):
        if ids and ids[-1] != tokens.unknown:
            return ids[-1]
    raise OptionsError(
        "This model's tokenizer knows neither a line break nor a comma, semicolon or bar, so that labels in an answer "
        "cannot be told apart. Use head='bce' or 'label-query'."
    )


def _check_apart(names: Sequence[str], found: LabelTokens) -> None:
    order = sorted(range(len(names)), key=lambda label: found.paths[label])
    for label in order:
        if len(found.paths[label]) == 1:
            raise OptionsError(f"Label {names[label]!r} has no tokens in this model's tokenizer. Rename it.")
        if found.end in found.paths[label][:1]:
            raise OptionsError(f"Label {names[label]!r} begins with the token that ends an answer. Rename it.")
    for first, second in pairwise(order):
        if found.paths[second][: len(found.paths[first])] == found.paths[first]:
            raise OptionsError(
                f"Labels {names[first]!r} and {names[second]!r} cannot be told apart in an answer: this model's "
                "tokenizer gives one the ids of the other, or its beginning. Rename one of them."
            )
