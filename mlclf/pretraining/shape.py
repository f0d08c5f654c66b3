"""How large a small language model is, and its configuration for transformers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from tokenizers import Tokenizer
from transformers import BertConfig, LlamaConfig, PreTrainedConfig

from mlclf.options import Options
from mlclf.pretraining.tokenizer import CAUSAL, MASKED, N_BYTES, SpecialTokens

Kind = Literal["causal", "masked"]

# Of one attention head; small models have few.
_HEAD_SIZE = 32
_SPECIAL = {"causal": CAUSAL, "masked": MASKED}


class LanguageModelShape(Options):
    """Kind and size of a language model.

    Parameters
    ----------
    kind : {"causal", "masked"}
        A Llama that predicts the next token, or a BERT that predicts hidden ones.
    hidden : int
        Size of a token state.
    layers : int
        Number of layers.
    vocabulary : int
        Most tokens of the tokenizer.
    max_length : int
        Tokens read at once.
    """

    kind: Kind = "causal"
    hidden: int = Field(default=128, ge=_HEAD_SIZE, multiple_of=_HEAD_SIZE)
    layers: int = Field(default=3, ge=1)
    vocabulary: int = Field(default=4000, gt=N_BYTES + len(MASKED.names))
    max_length: int = Field(default=512, ge=8)

    @property
    def special(self) -> SpecialTokens:
        """Special tokens of this kind of model."""
        return _SPECIAL[self.kind]

    def config(self, tokenizer: Tokenizer) -> PreTrainedConfig:
        """Return the configuration of a model for the tokens of a tokenizer."""
        return self._llama(tokenizer) if self.kind == "causal" else self._bert(tokenizer)

    def _llama(self, tokenizer: Tokenizer) -> LlamaConfig:
        heads = self.hidden // _HEAD_SIZE
        return LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=self.hidden,
            # Llama's two thirds of four, in whole heads.
            intermediate_size=round(8 * heads / 3) * _HEAD_SIZE,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=self.max_length,
            # A table of its own for the output would be most of a small model, and learns from few tokens.
            tie_word_embeddings=True,
            pad_token_id=tokenizer.token_to_id(self.special.pad),
            bos_token_id=tokenizer.token_to_id(self.special.first),
            eos_token_id=tokenizer.token_to_id(self.special.last),
        )

    def _bert(self, tokenizer: Tokenizer) -> BertConfig:
        return BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=self.hidden,
            intermediate_size=4 * self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // _HEAD_SIZE,
            max_position_embeddings=self.max_length,
            type_vocab_size=1,
            pad_token_id=tokenizer.token_to_id(self.special.pad),
        )
