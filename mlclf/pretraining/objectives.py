"""What a language model is trained on: the next token, or tokens that are hidden from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from mlclf.encoding import EncodedTexts
from mlclf.pretraining.shape import LanguageModelShape

# Devlin et al. (2019): of the chosen tokens so many are hidden, so many replaced by a random one, the rest stays.
_CHOSEN, _HIDDEN, _REPLACED = 0.15, 0.8, 0.1
# A position that the loss leaves out.
_IGNORED = -100


class Objective(ABC):
    """Makes rows of token ids from texts, and the loss of a model on them."""

    @abstractmethod
    def rows(self, encoded: EncodedTexts) -> EncodedTexts:
        """Return the token ids to learn from; a window is a row."""

    @abstractmethod
    def loss(
        self, model: PreTrainedModel, ids: NDArray[np.int64], mask: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[Tensor, int]:
        """Return the mean loss of the predicted tokens, and their number.

        Parameters
        ----------
        model : PreTrainedModel
        ids : ndarray of int64, shape (n_rows, length)
            Padded on the right.
        mask : ndarray of bool, shape (n_rows, length)
            True where there is a token.
        generator : numpy.random.Generator
            Source of what is drawn.
        """


class NextToken(Objective):
    """Cross-entropy of each token given those before it; a text ends with a token that says so.

    Parameters
    ----------
    last_id : int
        That token.
    """

    def __init__(self, last_id: int) -> None:
        self.last_id = last_id

    def rows(self, encoded: EncodedTexts) -> EncodedTexts:
        """Return the same rows with ``last_id`` behind each text: behind the last window of a long one."""
        ends = encoded.window_offsets[encoded.sample_offsets[1:]]
        return EncodedTexts(
            ids=np.insert(encoded.ids, ends, self.last_id).astype(np.int32),
            window_offsets=encoded.window_offsets + np.searchsorted(ends, encoded.window_offsets, side="right"),
            sample_offsets=encoded.sample_offsets,
        )

    def loss(
        self, model: PreTrainedModel, ids: NDArray[np.int64], mask: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[Tensor, int]:
        """Return the mean loss of all tokens but the first of each row, and their number."""
        tokens = torch.from_numpy(ids).to(model.device)
        targets = torch.from_numpy(np.where(mask, ids, _IGNORED)[:, 1:]).to(model.device)
        # Padding stands behind the text, where no token of it looks.
        length = tokens.shape[1] - 1
        before = torch.ones(1, 1, length, length, dtype=torch.bool, device=model.device).tril()
        states = model.base_model(input_ids=tokens[:, :-1], attention_mask=before).last_hidden_state
        return _cross_entropy(_output(model, states).flatten(0, 1), targets.flatten()), int(mask[:, 1:].sum())


class HiddenTokens(Objective):
    """Cross-entropy of tokens that were hidden, anew whenever a text is read.

    Parameters
    ----------
    mask_id : int
        Stands in the place of a hidden token.
    special_ids : tuple of int
        Never hidden, and the lowest ids there are.
    n_tokens : int
        Of the vocabulary.

    References
    ----------
    Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    arXiv:1810.04805.
    """

    def __init__(self, mask_id: int, special_ids: tuple[int, ...], n_tokens: int) -> None:
        self.mask_id, self.special_ids, self.n_tokens = mask_id, special_ids, n_tokens

    def rows(self, encoded: EncodedTexts) -> EncodedTexts:
        """Return the rows as they are."""
        return encoded

    def loss(
        self, model: PreTrainedModel, ids: NDArray[np.int64], mask: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[Tensor, int]:
        """Return the mean loss of the chosen tokens, and their number; 0 where there is none to choose."""
        read, targets = self.hide(ids, mask, generator)
        chosen = torch.from_numpy(targets).to(model.device)
        tokens, attended = (torch.from_numpy(part).to(model.device) for part in (read, mask.astype(np.int64)))
        states = model.base_model(input_ids=tokens, attention_mask=attended).last_hidden_state
        here = chosen != _IGNORED
        return _cross_entropy(_output(model, states[here]), chosen[here]), int((targets != _IGNORED).sum())

    def hide(
        self, ids: NDArray[np.int64], mask: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what the model reads, and the chosen tokens as they were, -100 elsewhere."""
        chosen = mask & ~np.isin(ids, self.special_ids) & (generator.random(ids.shape) < _CHOSEN)
        draw = generator.random(ids.shape)
        hidden = chosen & (draw < _HIDDEN)
        replaced = chosen & ~hidden & (draw < _HIDDEN + _REPLACED)
        read = np.where(hidden, self.mask_id, ids)
        words = generator.integers(len(self.special_ids), self.n_tokens, size=ids.shape)
        read = np.where(replaced, words, read)
        return read, np.where(chosen, ids, _IGNORED)


def make_objective(shape: LanguageModelShape, tokenizer: Tokenizer) -> Objective:
    """Return what a kind of model is trained on."""
    special = shape.special
    ids = {name: index for name in special.names if (index := tokenizer.token_to_id(name)) is not None}
    if special.mask is None:
        return NextToken(ids[special.last])
    return HiddenTokens(ids[special.mask], tuple(ids.values()), tokenizer.get_vocab_size())


def _output(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Return the logits of states."""
    head: Any = model.lm_head if hasattr(model, "lm_head") else model.cls
    logits: Tensor = head(states)
    return logits


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over the positions that have a target; 0 where none has."""
    total = functional.cross_entropy(logits.float(), targets, ignore_index=_IGNORED, reduction="sum")
    return total / (targets != _IGNORED).sum().clamp(min=1)
