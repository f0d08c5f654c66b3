"""Small random encoders, tokenizers and texts, made in memory within milliseconds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TokenizerKind = Literal["wordpiece", "bpe", "unigram"]
Architecture = Literal[
    "bert", "roberta", "distilbert", "deberta-v2", "modernbert", "xlm-roberta", "electra", "mpnet", "albert"
]

_TOPICS: dict[str, tuple[str, ...]] = {
    "animals": ("cat", "dog", "horse", "bird", "rabbit", "sheep"),
    "food": ("bread", "soup", "apple", "cheese", "rice", "cake"),
    "weather": ("rain", "snow", "wind", "storm", "fog", "sunshine"),
    "travel": ("train", "ticket", "airport", "hotel", "harbour", "map"),
}
_FILLERS = """
the a this that my your we they she he it is was were has had will can with without and or but near under
very quite small large old new good bad happy quiet slow quick today tomorrow yesterday morning evening
likes sees finds brings takes wants leaves keeps home garden street window table friend people day year
"""
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
_WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SENTENCE_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_KINDS: dict[str, TokenizerKind] = {
    "bert": "wordpiece",
    "distilbert": "wordpiece",
    "electra": "wordpiece",
    "roberta": "bpe",
    "modernbert": "bpe",
    "mpnet": "bpe",
    "xlm-roberta": "unigram",
    "deberta-v2": "unigram",
    "albert": "unigram",
}


def tiny_tokenizer(kind: TokenizerKind = "wordpiece") -> Tokenizer:
    """Return a tokenizer over some hundred English words, which spells every other word out.

    Parameters
    ----------
    kind : {"wordpiece", "bpe", "unigram"}
        Its model. Padding is token 0 with ``"wordpiece"`` and token 1 with the others.

    Returns
    -------
    tokenizers.Tokenizer

    Examples
    --------
    >>> tiny_tokenizer().encode("The cat").tokens
    ['[CLS]', 'the', 'cat', '[SEP]']
    """
    return {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}[kind]()


def tiny_encoder(
    architecture: Architecture, folder: str | Path, *, layers: int = 2, hidden: int = 32, seed: int = 0
) -> Path:
    """Write an encoder with random weights, as ``save_pretrained`` would.

    Parameters
    ----------
    architecture : str
        ``"bert"``, ``"roberta"``, ``"distilbert"``, ``"deberta-v2"``, ``"modernbert"``, ``"xlm-roberta"``,
        ``"electra"``, ``"mpnet"`` or ``"albert"``.
    folder : str or Path
        Folder to write into; created where it is absent.
    layers : int
        Number of layers.
    hidden : int
        Size of a token state, a multiple of 4.
    seed : int
        Seed of the weights; torch's own generator is left as it was.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(path.name for path in tiny_encoder("bert", folder).iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    from transformers import AutoModel

    return _write_encoder(AutoModel, architecture, Path(folder), layers, hidden, seed)


def tiny_masked_lm(
    architecture: Architecture, folder: str | Path, *, layers: int = 2, hidden: int = 32, seed: int = 0
) -> Path:
    """Write an encoder with an output layer over its vocabulary and random weights; see :func:`tiny_encoder`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tiny_masked_lm("bert", folder).name == Path(folder).name
    True
    """
    from transformers import AutoModelForMaskedLM

    return _write_encoder(AutoModelForMaskedLM, architecture, Path(folder), layers, hidden, seed)


def _write_encoder(
    auto_class: Any, architecture: Architecture, folder: Path, layers: int, hidden: int, seed: int
) -> Path:
    import torch
    from safetensors.torch import save_file
    from transformers import CONFIG_MAPPING

    kind = _KINDS[architecture]
    tokenizer = tiny_tokenizer(kind)
    config = CONFIG_MAPPING[architecture](**_sizes(architecture, tokenizer, layers, hidden))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto_class.from_config(config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    # Each tensor once: an output layer may be the embedding table again.
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    kept = {name: tensors[name].detach().contiguous() for name in model.state_dict() if name in tensors}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": tokenizer.id_to_token(_pad_id(kind))}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder


def tiny_texts(n: int, seed: int = 0) -> list[str]:
    """Return ``n`` short sentences; :func:`tiny_labels` says what they are about.

    Examples
    --------
    >>> len(tiny_texts(3))
    3
    """
    generator = random.Random(seed)
    topics = [word for words in _TOPICS.values() for word in words]
    texts = []
    for _ in range(n):
        words = generator.choices(_FILLERS.split(), k=generator.randint(2, 9)) + generator.choices(
            topics, k=generator.randint(0, 3)
        )
        generator.shuffle(words)
        texts.append(" ".join(words))
    return texts


def tiny_labels(texts: Iterable[str]) -> list[list[str]]:
    """Return the topics whose words stand in each text: overlapping, learnable, sometimes none.

    Examples
    --------
    >>> tiny_labels(["the cat eats cheese", "a quiet day"])
    [['animals', 'food'], []]
    """
    return [[topic for topic, words in _TOPICS.items() if not set(words).isdisjoint(text.split())] for text in texts]


def _sizes(architecture: str, tokenizer: Tokenizer, layers: int, hidden: int) -> dict[str, Any]:
    """Return the configuration of a small model, by the names that its architecture uses."""
    pad = _pad_id(_KINDS[architecture])
    common: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": pad,
        "max_position_embeddings": 64 + (pad + 1 if architecture in ("roberta", "xlm-roberta", "mpnet") else 0),
    }
    if architecture == "distilbert":
        return {**common, "dim": hidden, "n_layers": layers, "n_heads": 4, "hidden_dim": 2 * hidden}
    special: dict[str, dict[str, Any]] = {
        "electra": {"embedding_size": hidden // 2},
        "albert": {"embedding_size": hidden // 2},
        "deberta-v2": {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        "modernbert": {
            "bos_token_id": 0,
            "eos_token_id": 2,
            "cls_token_id": 0,
            "sep_token_id": 2,
            "local_attention": 8,
        },
    }
    shape = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
    }
    return {**common, **shape, **special.get(architecture, {})}


def _pad_id(kind: TokenizerKind) -> int:
    return 0 if kind == "wordpiece" else 1


def _words() -> list[str]:
    return [*_FILLERS.split(), *(word for words in _TOPICS.values() for word in words)]


def _wordpiece() -> Tokenizer:
    pieces = [*_WORDPIECE_SPECIALS, *_LETTERS, *("##" + letter for letter in _LETTERS), *_words(), "##s", "##ing"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _finish(tokenizer, _WORDPIECE_SPECIALS, "[CLS]", "[SEP]")


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(_SENTENCE_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words(), trainer)
    return _finish(tokenizer, _SENTENCE_SPECIALS, "<s>", "</s>")


def _unigram() -> Tokenizer:
    pieces = [(special, 0.0) for special in _SENTENCE_SPECIALS]
    pieces += [("▁" + word, -4.0) for word in dict.fromkeys(_words())]
    pieces += [(letter, -12.0) for letter in ("▁", *_LETTERS) if "▁" + letter not in dict(pieces) or letter == "▁"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=_SENTENCE_SPECIALS.index("<unk>")))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _finish(tokenizer, _SENTENCE_SPECIALS, "<s>", "</s>")


def _finish(tokenizer: Tokenizer, specials: Sequence[str], first: str, last: str) -> Tokenizer:
    """Add the special tokens, and put one before and one after each text."""
    tokenizer.add_special_tokens(list(specials))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer
