"""Backbone ``static:hashed``: hashed embeddings of pieces and words, trained from nothing."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from tokenizers import Tokenizer

from mlclf.interfaces import BackboneSource, LoadRequest
from mlclf_static.base import TOKENIZER, TableBackbone, TableOptions
from mlclf_static.hashing import HashedEmbedding
from mlclf_static.pieces import PAD, first_continuing, piece_tokenizer
from mlclf_static.pooling import MeanPooling


class HashedOptions(TableOptions):
    """Options of the backbone ``static:hashed``.

    Parameters
    ----------
    hidden : int
        Size of a vector.
    buckets : int
        Vectors in the table that pieces and words are hashed into.
    words : int
        Longest sequence of words that has a vector of its own: 1 is single words, 2 pairs too.
    std : float
        Standard deviation of the first vectors.
    max_length : int
        Pieces read at once; a word has one for every three letters.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many pieces.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.

    Examples
    --------
    >>> HashedOptions(words=3).hidden
    64
    """

    component = "static:hashed"
    hidden: int = Field(default=64, ge=1)
    buckets: int = Field(default=131_072, ge=2)
    words: int = Field(default=2, ge=1, le=4)
    std: float = Field(default=0.1, gt=0)


class HashedBackbone(TableBackbone):
    """A vector a token: the sum of those of its piece, its word and the words before; a text is their mean.

    Nothing is pretrained: without training (strategy ``features``) the vectors are a random projection of what occurs
    in the text.

    Parameters
    ----------
    options : HashedOptions

    References
    ----------
    Joulin et al. (2016), "Bag of Tricks for Efficient Text Classification", arXiv:1607.01759.

    Examples
    --------
    >>> backbone = HashedBackbone(HashedOptions(buckets=1024))
    >>> backbone.load(LoadRequest())
    >>> backbone(backbone.example_batch()).pooled.shape
    torch.Size([2, 64])
    """

    Options = HashedOptions
    # A rate of 1e-2 with strategy "full": nothing is pretrained that a higher one could destroy.
    learning_rate_scale = 200.0
    options: HashedOptions

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Make table and tokenizer; a saved model's tokenizer is read, so that it stays the one trained with."""
        self.check_request(request)
        options = self.options
        tokenizer = piece_tokenizer() if folder is None else Tokenizer.from_file(str(folder / TOKENIZER))
        self.set_tokenizer(
            tokenizer,
            pad_id=tokenizer.get_vocab()[PAD],
            max_length=options.max_length,
            window_stride=options.window_stride,
        )
        self.model = HashedEmbedding(
            options.buckets,
            options.hidden,
            words=options.words,
            first_continuing=first_continuing(tokenizer),
            std=options.std,
        )
        self.hidden_size = options.hidden
        self.pooling = MeanPooling()

    def source(self) -> BackboneSource:
        """Say that there are no pretrained weights."""
        return BackboneSource(kind="none", name=self.options.component)

    def count_weights(self) -> int:
        """Return the number of weights of the table."""
        return self.options.buckets * self.options.hidden

    def save_files(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.encoder.tokenizer.save(str(folder / TOKENIZER))
