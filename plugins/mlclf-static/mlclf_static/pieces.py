"""A tokenizer that needs no training texts and knows every text: words in pieces of up to three letters."""

from __future__ import annotations

from itertools import product
from string import ascii_lowercase, digits

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

PAD, UNKNOWN = "[PAD]", "[UNK]"
_CONTINUES = "##"
# Letters that WordPiece takes for one word; longer runs of letters are unknown to it.
_LONGEST_WORD = 512


def piece_tokenizer() -> Tokenizer:
    """Return a tokenizer that splits texts into words and words into pieces.

    Pieces are all runs of up to three letters a to z, pairs of digits, and single bytes for everything else, so that no
    text has an unknown character. A piece at the start of a word is another one than the same letters further on.

    Returns
    -------
    tokenizers.Tokenizer

    Examples
    --------
    >>> piece_tokenizer().encode("The weather!").tokens
    ['the', 'wea', '##the', '##r', '!']
    """
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    runs = ["".join(run) for length in (2, 3) for run in product(ascii_lowercase, repeat=length)]
    pairs = ["".join(pair) for pair in product(digits, repeat=2)]
    pieces = [*bytes_, *runs, *pairs]
    vocabulary = [PAD, UNKNOWN, *pieces, *(_CONTINUES + piece for piece in pieces)]
    tokenizer = Tokenizer(
        models.WordPiece(
            {piece: number for number, piece in enumerate(vocabulary)},
            unk_token=UNKNOWN,
            continuing_subword_prefix=_CONTINUES,
            max_input_chars_per_word=_LONGEST_WORD,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def first_continuing(tokenizer: Tokenizer) -> int:
    """Return the id from which on tokens continue a word.

    Examples
    --------
    >>> tokenizer = piece_tokenizer()
    >>> tokenizer.token_to_id("the") < first_continuing(tokenizer) <= tokenizer.token_to_id("##the")
    True
    """
    return min(number for piece, number in tokenizer.get_vocab().items() if len(piece) > 2 and piece.startswith("##"))
