"""Tokenizers and models for prompts: one that reads bytes, one that reads words as SentencePiece does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mlclf import LlmOptions
from mlclf.backbones.llm import LlmBackbone
from mlclf.interfaces import LoadRequest
from mlclf.testing.decoders import _write
from mlclf.testing.fakes import _words

# What Qwen 2 splits words by: one sign may join the word behind it.
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEXTS = ["体育 数据 量子计算 标签 文本", "data mining, sports; Labels: Text: You label texts", *_words()]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA_LIKE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}<|im_start|>model\n"
)


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE with ChatML's tokens, and a marker that is not called special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text + "\n" + text for text in _TEXTS] * 3, trainer)
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return tokenizer


def word_tokenizer() -> Tokenizer:
    """As Llama 2's: a mark before each word and before each text, bytes for what is unknown, a first token."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [("▁" + word, -4.0) for word in dict.fromkeys(_words())]
    pieces += [(letter, -12.0) for letter in "▁abcdefghijklmnopqrstuvwxyzLT:.,-"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


TOKENIZERS = {"bytes": byte_tokenizer, "words": word_tokenizer}


def write_model(folder: Path, kind: str = "bytes", chat: str | None = None, **changes: Any) -> Path:
    """Write a small Llama of random weights with one of the tokenizers."""
    tokenizer = TOKENIZERS[kind]()
    first, last = {"bytes": ("<|endoftext|>", "<|im_end|>"), "words": ("<s>", "</s>")}[kind]
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": 0,
        "bos_token_id": tokenizer.token_to_id(first),
        "eos_token_id": tokenizer.token_to_id(last),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,  # far from uniform, so that wrong masks show
        **changes,
    }
    _write("llama", sizes, tokenizer, folder, seed=0)
    config = {"bos_token": first, "eos_token": {"content": last, "special": True}}
    if chat is not None:
        config["chat_template"] = chat
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def load_model(folder: Path, **options: Any) -> LlmBackbone:
    """Load it with its output layer, in evaluation mode."""
    backbone = LlmBackbone(LlmOptions(model=str(folder), **options))
    backbone.load(LoadRequest(vocabulary=True))
    return backbone
