"""Texts on which exported models differ when something is wrong: with tokenisation, truncation, padding or masks."""

from __future__ import annotations

import random

# Words beyond which a text is too long for most models; one of 8,192 tokens would make every self-test slow.
_LONGEST = 1024

_TRICKY = (
    "",
    "Naïve café owners in Zürich résumé their façade: déjà vu, señor Ångström!",
    "这家餐厅的服务很好，但是价格太高。",  # noqa: RUF001  # the comma of Chinese
    "Great 👍🏽 service 🎉 but the parcel was late 😡",
    "Typed, not meant: [CLS] [SEP] [MASK] [PAD] <s> </s> <pad> <|endoftext|>",
    "   spaces,\ttabs\nand\u00a0lines\u200b ",
    "İSTANBUL'da hava güzel; ﬁne ﬂour costs 3½ €",
    "مرحبا بالعالم — Привет, мир — नमस्ते दुनिया — 안녕하세요",
)

_SENTENCES = (
    "the order was late and nobody answered my question about a refund for two broken lamps so I am writing again "
    "because the support team had promised to call on Tuesday which they did not although I had waited at home all day "
    "please tell me when delivery can be expected or cancel it; thank you, good food, friendly staff, fair price!"
)


def golden_texts(max_length: int) -> tuple[str, ...]:
    """Return the texts whose probabilities are stored in an exported folder.

    Parameters
    ----------
    max_length : int
        Tokens that the model reads at once; the last text has more words than that, up to a thousand.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> texts = golden_texts(max_length=64)
    >>> texts[0], len(texts[-1].split())
    ('', 80)
    """
    return (*_TRICKY, _words(min(max_length, _LONGEST) + 16, random.Random(0)))


def varied_texts(max_length: int) -> list[str]:
    """Return texts of many lengths, from no word to several windows, with the tricky ones among them.

    Parameters
    ----------
    max_length : int
        Tokens that the model reads at once.

    Returns
    -------
    list of str

    Examples
    --------
    >>> lengths = [len(text.split()) for text in varied_texts(max_length=64)]
    >>> min(lengths), max(lengths)
    (0, 192)
    """
    generator = random.Random(1)
    limit = min(max_length, _LONGEST)
    lengths = [1, 2, 3, 5, 8, 13, 21, limit // 3, limit // 2, limit - 2, limit, 3 * limit]
    texts = [*golden_texts(max_length), *(_words(max(1, length), generator) for length in lengths)]
    generator.shuffle(texts)
    return texts


def _words(n: int, generator: random.Random) -> str:
    return " ".join(generator.choices(_SENTENCES.split(), k=n))
