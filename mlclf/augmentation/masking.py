"""Span masking: tokens hidden behind the tokenizer's mask token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlclf.augmentation.base import Corpus
from mlclf.encoding import MASK_TOKENS, EncodedTexts, find_mask_id
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.options import AugmentationOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class SpanMasking:
    """Hides spans of tokens whose lengths are geometric (SpanBERT, Joshi et al. 2020, arXiv:1907.10529).

    Every token of a text is equally likely to be hidden, so that the share is that of all texts together, where
    SpanBERT hides the same share of each. Special tokens stay, and of each text at least one token of its own. Where
    windows of a long text overlap, each hides tokens of its own.

    Parameters
    ----------
    share : float
        Share of the tokens.
    mean_length : float
        Mean length of a span in tokens.
    mask_id : int
        Token that stands in the place of a hidden one.
    special_ids : ndarray of int64
        Tokens that are no text.
    """

    share: float
    mean_length: float
    mask_id: int
    special_ids: NDArray[np.int64]

    @classmethod
    def make(cls, options: AugmentationOptions, corpus: Corpus) -> SpanMasking | None:
        """Return the technique where it is asked for, else None.

        Raises
        ------
        IncompatibleComponentsError
            If the tokenizer has no mask token.
        """
        if not options.masking:
            return None
        special = [i for i, token in corpus.tokenizer.get_added_tokens_decoder().items() if token.special]
        mask_id = _mask_id(corpus.tokenizer)
        return cls(options.masking, options.masking_span, mask_id, np.array(special, dtype=np.int64))

    def apply(self, encoded: EncodedTexts, generator: np.random.Generator) -> EncodedTexts:
        """Return token ids, some of them replaced by the mask token's."""
        is_text = ~np.isin(encoded.ids, self.special_ids)
        hidden = self._spans(len(encoded.ids), generator) & is_text
        hidden[self._spared(encoded, is_text, hidden, generator)] = False
        return replace(encoded, ids=np.where(hidden, np.int32(self.mask_id), encoded.ids))

    def _spans(self, n_tokens: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Return which tokens are hidden: they are cut into spans of geometric length, of which a share is drawn.

        Where one text ends and the next begins needs no care: what is left of a geometric length is again geometric.
        """
        span = np.cumsum(generator.random(n_tokens) < 1 / self.mean_length)
        drawn = generator.random(n_tokens + 1) < self.share
        hidden: NDArray[np.bool_] = drawn[span]
        return hidden

    def _spared(
        self,
        encoded: EncodedTexts,
        is_text: NDArray[np.bool_],
        hidden: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the position of one token, drawn anew, of each text of which nothing would be left."""
        owners = np.repeat(np.arange(len(encoded)), encoded.sample_lengths)
        n_text = np.bincount(owners[is_text], minlength=len(encoded))
        n_hidden = np.bincount(owners[hidden], minlength=len(encoded))
        picks = (generator.random(len(encoded)) * n_text).astype(np.int64)
        first = np.cumsum(n_text) - n_text
        lost = (n_text > 0) & (n_hidden == n_text)
        spared: NDArray[np.int64] = np.flatnonzero(is_text)[(first + picks)[lost]]
        return spared


def _mask_id(tokenizer: Tokenizer) -> int:
    """Return the id of a tokenizer's mask token, or refuse one that has none, as most of causal language models."""
    found = find_mask_id(tokenizer)
    if found is None:
        raise IncompatibleComponentsError(
            f"AugmentationOptions(masking=...) hides tokens behind the tokenizer's mask token, and this tokenizer has "
            f"none (looked for {', '.join(MASK_TOKENS)}). Use deletion, which needs no such token, or a backbone that "
            "was pretrained with one."
        )
    return found
