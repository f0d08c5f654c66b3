"""Batches of prompts: head, text, tail, and in training the answer behind them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlclf.encoding import EncodedTexts
from mlclf.exceptions import OptionsError
from mlclf.heads.generation.answers import Answer, AnswerWriter
from mlclf.interfaces import Backbone, Batch
from mlclf.labels import Targets
from mlclf.prompts import Prompt

logger = logging.getLogger(__name__)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """What rows of a batch are made from.

    Parameters
    ----------
    prompt : Prompt
    writer : AnswerWriter
    order : ndarray of int64, shape (n_labels,), or None
        Labels in the order in which answers name them; None draws one for each answer.
    max_length : int
        Tokens that the model reads at once.
    """

    prompt: Prompt
    writer: AnswerWriter
    order: Ints | None
    max_length: int

    @property
    def answer_limit(self) -> int:
        """Tokens that an answer may have at most, beside a prompt without a text."""
        return self.max_length - len(self.prompt.head) - len(self.prompt.tail)

    def check(self, targets: Targets | None, kept_free: int) -> None:
        """Refuse answers that do not fit beside the prompt; say where texts are cut for them.

        Raises
        ------
        OptionsError
        """
        if targets is None:
            return
        sets = _label_sets(targets, np.arange(len(targets)))
        longest = max(map(self.writer.length, sets), default=0)
        if longest > self.answer_limit:
            raise OptionsError(
                f"The labels of one text take {longest} tokens, and beside the prompt there are {self.answer_limit}. "
                "Use a larger max_length of the backbone or PromptOptions(labels='none')."
            )
        if longest > kept_free:
            logger.info(
                "The longest answer of the training rows has %d tokens, and predictions stop after %d: texts are cut "
                "further in training where their answer is longer.",
                longest, kept_free,
            )  # fmt: skip

    def labels_of(self, targets: Targets, rows: Ints, *, draw: bool) -> list[list[int]]:
        """Return the labels of some rows in the order in which their answers name them."""
        sets = _label_sets(targets, rows)
        if self.order is not None:
            place = np.argsort(self.order)
            return [sorted(labels, key=lambda label: int(place[label])) for labels in sets]
        # torch's own generator: a fit seeds it, and a checkpoint holds its state.
        return [[labels[i] for i in torch.randperm(len(labels))] if draw else labels for labels in sets]


def _label_sets(targets: Targets, rows: Ints) -> list[list[int]]:
    return _columns(targets.indicator, rows)


def _columns(matrix: Any, rows: Ints) -> list[list[int]]:
    return [matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].tolist() for row in rows]


def with_answers(
    made_from: Rows, backbone: Backbone, encoded: EncodedTexts, rows: Ints, targets: Targets | None, *, draw: bool
) -> Batch:
    """Make a batch of some samples.

    Parameters
    ----------
    made_from : Rows
    backbone : Backbone
        Says on which side rows are padded.
    encoded : EncodedTexts
        Texts alone.
    rows : ndarray of int64, shape (n_samples,)
    targets : Targets or None
    draw : bool
        Whether orders that are drawn are drawn anew; else such answers have the order of the label space.
    """
    prompt = made_from.prompt
    texts = [encoded.ids[encoded.window_offsets[row] : encoded.window_offsets[row + 1]] for row in rows]
    head, tail = np.array(prompt.head, dtype=np.int64), np.array(prompt.tail, dtype=np.int64)
    ids, mask = _padded([np.concatenate([text, tail]) for text in texts], backbone.pad_id, "right")
    extras = {"prompt_ids": ids, "prompt_mask": mask.bool()}
    if targets is None:
        return Batch(_before(ids, head), _before(mask, np.ones_like(head)), n_samples=len(rows), extras=extras)
    unknown = [[]] * len(rows) if targets.unknown is None else _columns(targets.unknown, rows)
    sets = made_from.labels_of(targets, rows, draw=draw)
    answers = [made_from.writer.write(*about) for about in zip(sets, unknown, strict=True)]
    whole = [
        np.concatenate([head, text[: made_from.answer_limit - len(answer.ids)], tail, answer.ids])
        for text, answer in zip(texts, answers, strict=True)
    ]
    ids, mask = _padded(whole, backbone.pad_id, backbone.padding_side)
    dense, known = targets.dense(rows)
    return Batch(
        ids,
        mask,
        n_samples=len(rows),
        targets=torch.from_numpy(dense),
        known=None if known is None else torch.from_numpy(known),
        extras={**extras, **_places(answers, mask)},
    )


def _places(answers: list[Answer], mask: Tensor) -> dict[str, Tensor]:
    """Return where each token of each answer is foretold: at the token before it."""
    counts = torch.tensor([len(answer.ids) for answer in answers])
    owner = torch.arange(len(answers)).repeat_interleave(counts)
    stop = mask.shape[1] - mask.flip(1).argmax(dim=1)
    within = torch.cat([torch.arange(int(count)) for count in counts])
    return {
        "answer_row": owner,
        "answer_place": (stop - counts)[owner] + within - 1,
        "answer_token": torch.from_numpy(np.concatenate([answer.tokens for answer in answers])),
        "answer_allowed": torch.from_numpy(np.concatenate([answer.allowed for answer in answers])),
    }


def _padded(rows: list[NDArray[Any]], pad_id: int, side: str) -> tuple[Tensor, Tensor]:
    """Return rows as a matrix of ids with its mask, int64 ``(n_rows, length)``."""
    length = max(map(len, rows))
    ids, mask = torch.full((len(rows), length), pad_id), torch.zeros(len(rows), length, dtype=torch.int64)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[number, place] = torch.from_numpy(np.asarray(row, dtype=np.int64))
        mask[number, place] = 1
    return ids, mask


def _before(matrix: Tensor, head: Ints) -> Tensor:
    return torch.cat([torch.from_numpy(head).expand(len(matrix), -1), matrix], dim=1)
