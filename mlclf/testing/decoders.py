"""Small random causal language models with their tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, processors

from mlclf.testing.fakes import tiny_tokenizer

DecoderArchitecture = Literal[
    "llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi3", "glm", "gpt2"
]


def tiny_decoder(
    architecture: DecoderArchitecture, folder: str | Path, *, layers: int = 2, hidden: int = 32, seed: int = 0
) -> Path:
    """Write a causal language model with random weights, as ``save_pretrained`` would.

    Its tokenizer puts a token before each text and none after it, as those of Llama and Gemma do.

    Parameters
    ----------
    architecture : str
        ``"llama"``, ``"qwen2"``, ``"qwen3"``, ``"mistral"``, ``"gemma"``, ``"gemma2"``, ``"gemma3_text"``, ``"phi3"``,
        ``"glm"`` or ``"gpt2"``.
    folder : str or Path
        Folder to write into; created where it is absent.
    layers : int
        Number of layers.
    hidden : int
        Size of a token state, a multiple of 8.
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
    ...     sorted(path.name for path in tiny_decoder("llama", folder).iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    tokenizer = _tokenizer()
    return _write(architecture, _sizes(architecture, tokenizer, layers, hidden), tokenizer, Path(folder), seed)


def random_llama(
    folder: str | Path, *, hidden: int, feed_forward: int, layers: int, heads: int, kv_heads: int, seed: int = 0
) -> Path:
    """Write a Llama with random weights in a size of choice: for measuring cost, which does not depend on weights.

    Parameters
    ----------
    folder : str or Path
        Folder to write into; created where it is absent.
    hidden, feed_forward : int
        Sizes of a token state and of the feed-forward layer.
    layers, heads, kv_heads : int
        Number of layers, of attention heads, and of heads of keys and values.
    seed : int
        Seed of the weights.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = random_llama(folder, hidden=32, feed_forward=64, layers=1, heads=4, kv_heads=2)
    ...     (path / "model.safetensors").is_file()
    True
    """
    tokenizer = _tokenizer()
    sizes = {
        **_special_ids(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 2048,
    }
    return _write("llama", sizes, tokenizer, Path(folder), seed)


def _write(
    architecture: DecoderArchitecture, sizes: dict[str, Any], tokenizer: Tokenizer, folder: Path, seed: int
) -> Path:
    import torch
    from safetensors.torch import save_file
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[architecture](**sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    # A tied output layer is the embedding table again, which safetensors stores once.
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder


def _special_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": tokenizer.token_to_id("<pad>"),
        "bos_token_id": tokenizer.token_to_id("<s>"),
        "eos_token_id": tokenizer.token_to_id("</s>"),
    }


def _tokenizer() -> Tokenizer:
    tokenizer = tiny_tokenizer("bpe")
    first = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[first]
    )
    return tokenizer


def _sizes(architecture: str, tokenizer: Tokenizer, layers: int, hidden: int) -> dict[str, Any]:
    """Return the configuration of a small model, by the names that its architecture uses."""
    common = _special_ids(tokenizer)
    if architecture == "gpt2":
        return {**common, "n_embd": hidden, "n_layer": layers, "n_head": 4, "n_positions": 64}
    shape = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 64,
    }
    # So short a window that texts of the tests are longer.
    windows = {"mistral": 8, "gemma2": 8, "gemma3_text": 8}
    return {**common, **shape, **({"sliding_window": windows[architecture]} if architecture in windows else {})}
