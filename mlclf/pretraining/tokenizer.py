"""A byte-level BPE tokenizer trained on texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

# Every text can be spelled in these, so that no token stands for what is unknown.
N_BYTES = 256


@dataclass(frozen=True)
class SpecialTokens:
    """What the special tokens of a kind of language model are called.

    A merge joins characters of one piece of the pre-tokenizer, and a piece is either letters or signs: no text,
    whatever it contains, can be merged into a name that has both.

    Parameters
    ----------
    pad, first, last : str
        Padding, the token before each text, and the one that ends it.
    mask : str or None
        Stands in the place of a hidden token.
    last_after_text : bool
        Whether the tokenizer puts ``last`` behind each text itself. Where a causal model is to go on with a text, it
        must not.
    """

    pad: str
    first: str
    last: str
    mask: str | None
    last_after_text: bool

    @property
    def names(self) -> list[str]:
        """All of them, in the order of their ids."""
        return [name for name in (self.pad, self.first, self.last, self.mask) if name is not None]


CAUSAL = SpecialTokens(pad="<pad>", first="<s>", last="</s>", mask=None, last_after_text=False)
MASKED = SpecialTokens(pad="[PAD]", first="[CLS]", last="[SEP]", mask="[MASK]", last_after_text=True)


def train_tokenizer(texts: Sequence[str], vocabulary: int, special: SpecialTokens) -> Tokenizer:
    """Return a byte-level BPE tokenizer.

    Parameters
    ----------
    texts : sequence of str
    vocabulary : int
        Most tokens, special ones and the 256 bytes included; few or short texts give fewer.
    special : SpecialTokens

    Returns
    -------
    tokenizers.Tokenizer

    References
    ----------
    Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword Units", arXiv:1508.07909.

    Examples
    --------
    >>> tokenizer = train_tokenizer(["low lower lowest"] * 3, 300, CAUSAL)
    >>> tokenizer.encode("low lower").tokens
    ['<s>', 'low', 'Ġlower']
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=special.names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    around = [special.first, special.last] if special.last_after_text else [special.first]
    tail = f" {special.last}" if special.last_after_text else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special.first} $A{tail}",
        pair=f"{special.first} $A{tail} $B{tail}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in around],
    )
    return tokenizer
