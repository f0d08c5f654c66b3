"""Hashed embeddings: a learned vector for each piece, word and sequence of words, without a vocabulary of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A prime below 2**31: products of two numbers below it fit into int64, here and in an exported graph.
_PRIME = 2_147_483_647
_FACTORS = (1_103_515_245, 1_664_525, 22_695_477, 214_013, 1_140_671_485, 69_069)
# Of a longer word, what is hashed is its last pieces.
_WORD_PIECES = 6


class HashedEmbedding(nn.Module):
    """A vector for each token: the sum of the vectors of its piece, of its word so far, and of the words before.

    Words and sequences of words are hashed into one table, so that two of them may share a vector (Weinberger et al.
    2009, arXiv:0902.2206), as in fastText (Joulin et al. 2016, arXiv:1607.01759). "So far" means that the pieces of
    ``happiness`` give ``hap``, ``happin`` and ``happiness``: inflected forms have something in common.

    Parameters
    ----------
    n_buckets : int
        Vectors in the table.
    hidden : int
        Size of a vector.
    words : int
        Longest sequence of words.
    first_continuing : int
        Tokens with a smaller id begin a word.
    std : float
        Standard deviation of the first vectors.

    Examples
    --------
    >>> table = HashedEmbedding(1024, 8, words=2, first_continuing=10, std=0.1)
    >>> table(torch.tensor([[1, 12, 3]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, n_buckets: int, hidden: int, *, words: int, first_continuing: int, std: float) -> None:
        super().__init__()
        self.words, self.first_continuing = words, first_continuing
        self.table = nn.Embedding(n_buckets, hidden)
        nn.init.normal_(self.table.weight, std=std)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the state of each token, shape (n_rows, length, hidden)."""
        states: Tensor = self.table(self.buckets(ids)).sum(dim=2)
        return states

    def buckets(self, ids: Tensor) -> Tensor:
        """Return the rows of the table that each token adds up, shape (n_rows, length, 1 + words)."""
        found = [ids % _PRIME]
        code = torch.zeros_like(ids)
        for number, word in enumerate(self._words(ids)):
            code = (code * _FACTORS[number] + word + 1 + number) % _PRIME
            found.append(code)
        hashed = torch.stack(found, dim=2) * _FACTORS[-1] % _PRIME
        return hashed % self.table.num_embeddings

    def _words(self, ids: Tensor) -> list[Tensor]:
        """Return a number for each token's word so far, for the word before it, and so on, each (n_rows, length)."""
        codes, begins = (ids + 1) * _FACTORS[0] % _PRIME, (ids < self.first_continuing).to(ids.dtype)
        passed = torch.zeros_like(ids)
        words = [torch.zeros_like(ids) for _ in range(self.words)]
        for back in range(_WORD_PIECES * self.words):
            for number, word in enumerate(words):
                words[number] = word + (passed == number).to(ids.dtype) * codes * (back + 1) % _PRIME
            passed = passed + begins
            codes, begins = F.pad(codes[:, :-1], (1, 0)), F.pad(begins[:, :-1], (1, 0), value=1)
        return [word % _PRIME for word in words]
