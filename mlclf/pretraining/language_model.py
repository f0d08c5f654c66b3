"""``pretrain_lm``: a small language model from texts alone, in a folder that a backbone loads."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from mlclf.backbones.attention import NAME as ATTENTION
from mlclf.encoding import TextEncoder
from mlclf.files import check_replaceable, replace_folder
from mlclf.inputs import random_seed
from mlclf.options import TrainingOptions
from mlclf.pretraining.loop import LanguageModelLoop
from mlclf.pretraining.objectives import make_objective
from mlclf.pretraining.shape import Kind, LanguageModelShape
from mlclf.pretraining.tokenizer import SpecialTokens, train_tokenizer
from mlclf.texts import as_texts
from mlclf.training.device import resolve_device, seeded

_AUTO = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM}


@dataclass(frozen=True)
class PretrainingReport:
    """What :func:`pretrain_lm` made.

    Parameters
    ----------
    folder : Path
        Where it lies.
    losses : tuple of float, length n_epochs
        Mean cross-entropy a predicted token in each epoch, in nats.
    n_weights : int
    n_tokens : int
        Tokens of the training texts.
    vocabulary : int
        Tokens of the tokenizer.
    seconds : float
    """

    folder: Path
    losses: tuple[float, ...]
    n_weights: int
    n_tokens: int
    vocabulary: int
    seconds: float


def pretrain_lm(
    X: Any,
    folder: str | os.PathLike[str],
    *,
    kind: Kind = "causal",
    hidden: int = 128,
    layers: int = 3,
    vocabulary: int = 4000,
    max_length: int = 512,
    epochs: int = 4,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    random_state: int | np.random.RandomState | None = None,
    device: str | None = None,
    verbose: int = 1,
) -> PretrainingReport:
    """Train a tokenizer and a small language model on texts alone, without any download.

    For tests, for demonstrations, and for texts in a language or notation that no pretrained model has read. What comes
    out knows these texts only: a model that was pretrained on billions of words is better wherever there is one.

    Parameters
    ----------
    X : sequence of str
        Texts, without labels; those of the training split, not of the test split. Special tokens typed in them are
        ordinary characters.
    folder : path
        To be made; one that is there must be empty.
    kind : {"causal", "masked"}
        A Llama that predicts the next token, for ``backbone="llm"``; or a BERT that predicts hidden tokens (Devlin et
        al. 2019, arXiv:1810.04805), for ``backbone="bert"``. Both keep their output layer over the vocabulary.
    hidden : int
        Size of a token state, a multiple of 32, which is the size of an attention head.
    layers : int
        Number of layers.
    vocabulary : int
        Most tokens of the tokenizer, byte-level BPE.
    max_length : int
        Tokens read at once, which a backbone can read later too; longer texts are cut into parts.
    epochs : int
        Passes over the texts.
    batch_size : int
        Texts, or parts of them, in a step; a batch holds texts of similar length.
    learning_rate : float
        Peak rate of AdamW, after a warm-up over 5 % of the steps and before a cosine down to zero.
    random_state : int, RandomState or None
        Seed of weights and order; the same seed on the same machine gives the same weights.
    device : str or None
        ``"cpu"``, ``"cuda"``, ...; None takes a GPU where there is one.
    verbose : int
        0 for no progress bar.

    Returns
    -------
    PretrainingReport

    Raises
    ------
    OptionsError, InvalidInputError
        Before any work.
    NonFiniteLossError, TrainingInterrupted
        During training; nothing is written.

    Examples
    --------
    >>> import tempfile
    >>> from mlclf import LlmOptions, pretrain_lm
    >>> from mlclf.testing import tiny_texts
    >>> small = {"hidden": 32, "layers": 1, "vocabulary": 300, "epochs": 1}
    >>> with tempfile.TemporaryDirectory() as place:
    ...     report = pretrain_lm(tiny_texts(32), f"{place}/lm", **small, verbose=0)
    ...     sorted(path.name for path in report.folder.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    >>> backbone = LlmOptions(model=str(report.folder))
    """
    start = time.perf_counter()
    shape = LanguageModelShape(kind=kind, hidden=hidden, layers=layers, vocabulary=vocabulary, max_length=max_length)
    training = TrainingOptions(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_ratio=0.05,
        schedule="cosine",
        weight_decay=0.1,
    )
    target, place, seed = Path(folder), resolve_device(device), random_seed(random_state)
    check_replaceable(target, ours=False, what="empty")
    texts = as_texts(X)
    tokenizer = train_tokenizer(texts, shape.vocabulary, shape.special)
    model, losses, n_tokens = _train(texts, tokenizer, shape, training, place, seed, verbose)
    with replace_folder(target) as work:
        _write(work, model, tokenizer, shape)
    return PretrainingReport(
        folder=target,
        losses=tuple(losses),
        n_weights=sum(parameter.numel() for parameter in model.parameters()),
        n_tokens=n_tokens,
        vocabulary=tokenizer.get_vocab_size(),
        seconds=time.perf_counter() - start,
    )


def _train(
    texts: list[str],
    tokenizer: Tokenizer,
    shape: LanguageModelShape,
    training: TrainingOptions,
    device: torch.device,
    seed: int,
    verbose: int,
) -> tuple[PreTrainedModel, list[float], int]:
    """Train a model; return it, the losses of the epochs, and the number of tokens."""
    objective = make_objective(shape, tokenizer)
    # One token less, for the one that ends a text.
    rows = objective.rows(TextEncoder(tokenizer, shape.max_length - 1, window_stride=0).encode(texts))
    with seeded(seed):
        model = _AUTO[shape.kind].from_config(shape.config(tokenizer), attn_implementation=ATTENTION).to(device)
        loop = LanguageModelLoop(model, objective, rows, training, np.random.default_rng(seed))
        losses = loop.run(verbose)
    return model, losses, len(rows.ids)


def _write(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, shape: LanguageModelShape) -> None:
    """Write the files that ``save_pretrained`` would."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    # Each tensor once: the output layer is the embedding table again.
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    kept = {name: tensors[name].detach().cpu().contiguous() for name in model.state_dict() if name in tensors}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(_tokenizer_config(shape.special, shape.max_length), indent=1) + "\n", encoding="utf-8"
    )


def _tokenizer_config(special: SpecialTokens, max_length: int) -> dict[str, Any]:
    roles = {"pad_token": special.pad}
    if special.mask is None:
        roles |= {"bos_token": special.first, "eos_token": special.last}
    else:
        roles |= {"cls_token": special.first, "sep_token": special.last, "mask_token": special.mask}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length, **roles}
