"""Building a transformers model from a cleaned configuration and safetensors weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import logging as transformers_logging

from mlclf.backbones.dropout import replace_dropout
from mlclf.backbones.vocabulary import VocabularyHead
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import LoadRequest
from mlclf.quantized import quantize, take_over

# Architectures that number positions from pad_token_id + 1, so that so many of their positions are never used.
_OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "longformer",
        "luke",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)

# What the architectures call the dropout of hidden states, attention and embeddings.
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
)


def make_config(
    values: dict[str, Any],
    name: str,
    check: Callable[[type[PreTrainedConfig], dict[str, Any]], None],
    dropout: float | None,
) -> PreTrainedConfig:
    """Return the configuration object of a model.

    Parameters
    ----------
    values : dict
        A configuration cleaned by :func:`mlclf.backbones.files.read_config`.
    name : str
        The model's name, for errors.
    check : callable
        Called with the class of configurations and the values; raises BackboneLoadError for a wrong architecture.
    dropout : float or None
        Dropout to use instead of the model's own.

    Raises
    ------
    BackboneLoadError
        If the architecture is unknown or not wanted.
    """
    architecture = values["model_type"]
    if architecture not in CONFIG_MAPPING:
        raise BackboneLoadError(
            f"Model {name!r} has the architecture {architecture!r}, which the installed transformers does not have. "
            "mlclf never runs code of a model repository: choose another model, or upgrade transformers."
        )
    check(CONFIG_MAPPING[architecture], values)
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[architecture].from_dict(values)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise BackboneLoadError(
            f"The config.json of model {name!r} is not valid for {architecture!r}: {error}"
        ) from error
    if dropout is not None:
        for key in _DROPOUTS:
            if hasattr(config, key):
                setattr(config, key, dropout)
    return config


def is_causal(kind: type[PreTrainedConfig]) -> bool:
    """Say whether a class of configurations is that of causal language models."""
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING


def position_limit(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model can read at once, or None where its configuration gives no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return None if positions is None else positions - first_position(config)


def first_position(config: PreTrainedConfig) -> int:
    """Return the number that a model gives to the position of a text's first token."""
    return int(config.pad_token_id) + 1 if config.model_type in _OFFSET_POSITIONS else 0


def build_model(
    config: PreTrainedConfig,
    folder: Path | None,
    request: LoadRequest,
    attention_for: Callable[[type[PreTrainedModel]], str],
) -> tuple[PreTrainedModel, VocabularyHead | None]:
    """Build a model in evaluation mode, with this package's dropout.

    Parameters
    ----------
    config : PreTrainedConfig
        From :func:`make_config`.
    folder : Path or None
        Folder with safetensors weights; None starts from random weights.
    request : LoadRequest
        Type and quantisation of the weights, and whether the output layer over the vocabulary is wanted.
    attention_for : callable
        Returns the name of the attention function for a class of models.

    Returns
    -------
    model : PreTrainedModel
        Without a language-modelling head.
    vocabulary : VocabularyHead or None
        That head, where it was asked for.

    Raises
    ------
    BackboneLoadError
        If weights are missing or do not fit.
    """
    kind = _language_model_class(config) if request.vocabulary else _model_class(config)
    extra = _without_pooler(kind)
    with quiet():
        if folder is None:
            config._attn_implementation = attention_for(kind)
            model = kind(config, **extra).to(request.dtype)
            if request.quantization is not None:
                quantize(cast(PreTrainedModel, model.base_model), request.quantization)
        else:
            extra["attn_implementation"] = attention_for(kind)
            model = _read_weights(kind, config, folder, request, extra)
            if request.quantization is not None:
                take_over(model, request.dtype)
    replace_dropout(model)
    model.eval()
    if not request.vocabulary:
        return model, None
    layers = cast(PreTrainedModel, model.base_model)
    vocabulary = VocabularyHead(model)
    return layers.requires_grad_(True), vocabulary


def count_weights(config: PreTrainedConfig) -> int:
    """Return how many weights the model of a configuration has, each once where layers share it; none is made."""
    kind = _model_class(config)
    with torch.device("meta"), quiet():
        model = kind(config, **_without_pooler(kind))
    return sum(parameter.numel() for parameter in model.parameters())


def _without_pooler(kind: type[PreTrainedModel]) -> dict[str, Any]:
    """Return the argument that leaves out a pooler nobody uses, where a class of models takes it."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind.__init__).parameters else {}


def _quantization(kind: type[PreTrainedModel], config: PreTrainedConfig, request: LoadRequest) -> Any:
    """Return the quantisation asked for, which leaves an output layer over the vocabulary as it is."""
    wanted = copy.deepcopy(request.quantization)
    if request.vocabulary:
        with torch.device("meta"):
            parts = kind(config).named_children()
        wanted.llm_int8_skip_modules = [name for name, _ in parts if name != kind.base_model_prefix]
    return wanted


def _read_weights(
    kind: type[PreTrainedModel], config: PreTrainedConfig, folder: Path, request: LoadRequest, extra: dict[str, Any]
) -> PreTrainedModel:
    if request.quantization is not None:
        # Without a map transformers would take the first GPU, whatever device was asked for.
        place = {"": request.device or torch.device("cpu")}
        extra = {**extra, "quantization_config": _quantization(kind, config, request), "device_map": place}
    if request.device_map is not None:
        extra = {**extra, "device_map": request.device_map}
    try:
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=request.dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **extra,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise BackboneLoadError(f"The weights in {str(folder)!r} cannot be read as {kind.__name__}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise BackboneLoadError(
            f"The weights in {str(folder)!r} lack {len(missing)} tensors of {kind.__name__}, such as {missing[0]!r}: "
            f"{_why_missing(request)}."
        )
    return model


def _why_missing(request: LoadRequest) -> str:
    why = "they are of another architecture than config.json says, or incomplete"
    if not request.vocabulary:
        return why
    return f"{why}, or saved without the output layer over the vocabulary that the head needs"


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    found = MODEL_MAPPING[type(config)]
    kind: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return kind


def _language_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class with an output layer over the vocabulary: causal for causal models, masked for encoders."""
    mapping = MODEL_FOR_CAUSAL_LM_MAPPING if is_causal(type(config)) else MODEL_FOR_MASKED_LM_MAPPING
    if type(config) not in mapping:
        raise BackboneLoadError(
            f"The architecture {config.model_type!r} has no output layer over its vocabulary in transformers, and the "
            "chosen head needs one. Choose another head, such as head='bce', or another model."
        )
    kind: type[PreTrainedModel] = mapping[type(config)]
    return kind


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting unused tensors and drawing a bar; what matters is checked here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
