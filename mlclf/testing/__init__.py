"""Tools for testing plugins and programs that use mlclf: small models and texts that need no network."""

from mlclf.testing.decoders import random_llama, tiny_decoder
from mlclf.testing.exported import tiny_exported
from mlclf.testing.fakes import tiny_encoder, tiny_labels, tiny_masked_lm, tiny_texts, tiny_tokenizer

__all__ = [
    "random_llama",
    "tiny_decoder",
    "tiny_encoder",
    "tiny_exported",
    "tiny_labels",
    "tiny_masked_lm",
    "tiny_texts",
    "tiny_tokenizer",
]
