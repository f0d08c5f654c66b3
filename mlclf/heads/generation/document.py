"""What a program needs to ask the merged model for labels by itself: the content of ``prompt.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlclf.heads.generation.decoding import Limits
from mlclf.heads.generation.names import LabelTokens
from mlclf.prompts import Prompt

FORMAT, FORMAT_VERSION = "mlclf-prompt", 1


@dataclass(frozen=True)
class Question:
    """What a bound head asks.

    Parameters
    ----------
    prompt : Prompt
    names : tuple of str
        The labels, in the order of the label space.
    tokens : LabelTokens
        Of the labels.
    order : ndarray of int64, shape (n_labels,), or None
        In which answers name the labels; None where there is none.
    limits : Limits
        Of an answer.
    """

    prompt: Prompt
    names: tuple[str, ...]
    tokens: LabelTokens
    order: NDArray[np.int64] | None
    limits: Limits


def prompt_document(question: Question) -> dict[str, Any]:
    """Return a question as JSON values.

    Parameters
    ----------
    question : Question

    Returns
    -------
    dict
        ``head_ids`` and ``tail_ids``, the ids before and after the ids of a text, of which at most ``text_tokens`` are
        taken; ``head_text`` and ``tail_text``, the same in words; ``special_tokens``, what no text may contain as a
        token; ``labels`` and their ``label_ids``, in the order in which answers name them where ``answer.ordered``;
        and of the ``answer`` what stands before a name and after it, and what ends it.
    """
    prompt, tokens = question.prompt, question.tokens
    order = range(len(question.names)) if question.order is None else question.order.tolist()
    separator = tokens.paths[0][-1]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "head_ids": list(prompt.head),
        "tail_ids": list(prompt.tail),
        "head_text": prompt.tokens.decode(prompt.head),
        "tail_text": prompt.tokens.decode(prompt.tail),
        "text_tokens": prompt.room,
        "special_tokens": list(prompt.tokens.specials),
        "labels": [question.names[label] for label in order],
        "label_ids": [list(tokens.paths[label]) for label in order],
        "answer": {
            "prefix": tokens.prefix,
            "separator": prompt.tokens.decode([separator]),
            "separator_id": separator,
            "stop_ids": [] if tokens.end == separator else [tokens.end],
            "ordered": question.order is not None,
            "max_labels": question.limits.labels,
            "max_tokens": question.limits.tokens,
        },
    }
