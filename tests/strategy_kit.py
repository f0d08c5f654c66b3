"""Tiny backbones under a strategy, and what tests of strategies ask of them."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.llm import LlmBackbone, LlmOptions
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.interfaces import Batch, LoadRequest, Strategy
from mlclf.options import Options
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_texts
from mlclf.testing.decoders import DecoderArchitecture

N_LAYERS = 3
_FOLDER = TemporaryDirectory(prefix="mlclf-strategies-")  # removed when the process ends
LAYERED = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert", "xlm-roberta")
DECODERS = ("llama", "qwen3", "gemma", "gpt2", "phi3", "glm")


@lru_cache
def folder_of(architecture: str) -> Path:
    """Return a folder with a tiny encoder or decoder, the same one in the whole process."""
    make: Any = tiny_decoder if architecture in get_args(DecoderArchitecture) else tiny_encoder
    folder: Path = make(architecture, Path(_FOLDER.name) / architecture, layers=N_LAYERS)
    return folder


@lru_cache
def _loaded(architecture: str, pooling: Any, quantising: Options | None) -> PretrainedBackbone:
    model = str(folder_of(architecture))
    backbone: PretrainedBackbone = (
        LlmBackbone(LlmOptions(model=model, max_length=32, pooling=pooling))
        if architecture in get_args(DecoderArchitecture)
        else BertBackbone(BertOptions(model=model, max_length=32, pooling=pooling))
    )
    backbone.load(LoadRequest() if quantising is None else strategy_of(quantising).load_request())
    return backbone


def load(architecture: str = "bert", pooling: str = "mean", *, of: Options | None = None) -> PretrainedBackbone:
    """Return a backbone as it is right after loading, as a strategy with some options asks for it."""
    quantised = of is not None and strategy_of(of).load_request().quantization is not None
    return copy.deepcopy(_loaded(architecture, pooling, of if quantised else None))


def strategy_of(options: Options) -> Strategy:
    """Return the built-in strategy that some options configure."""
    from mlclf.plugins import resolve

    found: type[Strategy] = resolve("strategy", options)[1]
    return found(options)


def adapted(options: Options, architecture: str = "bert", *, seed: int = 0) -> tuple[PretrainedBackbone, Strategy]:
    """Return a backbone that a strategy has adapted."""
    backbone, strategy = load(architecture, of=options), strategy_of(options)
    torch.manual_seed(seed)
    strategy.check(backbone)
    strategy.adapt(backbone)
    return backbone, strategy


def batch_of(backbone: PretrainedBackbone, n: int = 5) -> Batch:
    """Return a batch with padding."""
    return backbone.collate(backbone.encode(["cat", *tiny_texts(n - 1)]), np.arange(n))


@torch.no_grad()
def states(backbone: PretrainedBackbone) -> Tensor:
    """Return the states of all real tokens, in evaluation mode."""
    backbone.model.eval()
    batch = batch_of(backbone)
    return backbone.token_states(batch)[batch.attention_mask.bool()]


def disturb(backbone: PretrainedBackbone, seed: int = 1) -> None:
    """Change everything that learns by random numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def weights(backbone: PretrainedBackbone) -> dict[str, Tensor]:
    """Return copies of all weights by name."""
    return {name: tensor.detach().clone() for name, tensor in backbone.model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Tell whether two sets of weights have the same names and bits."""
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)
