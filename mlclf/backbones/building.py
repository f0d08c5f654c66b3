"""Building a transformers encoder from a cleaned configuration and safetensors weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import logging as transformers_logging

from mlclf.backbones import attention
from mlclf.backbones.dropout import replace_dropout
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import LoadRequest

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
)


def make_config(values: dict[str, Any], name: str, dropout: float | None) -> PreTrainedConfig:
    """Return the configuration object of an encoder.

    Parameters
    ----------
    values : dict
        A configuration cleaned by :func:`mlclf.backbones.files.read_config`.
    name : str
        The model's name, for errors.
    dropout : float or None
        Dropout to use instead of the model's own.

    Raises
    ------
    BackboneLoadError
        If the architecture is unknown or no encoder.
    """
    architecture = values["model_type"]
    if architecture not in CONFIG_MAPPING:
        raise BackboneLoadError(
            f"Model {name!r} has the architecture {architecture!r}, which the installed transformers does not have. "
            "mlclf never runs code of a model repository: choose another model, or upgrade transformers."
        )
    _check_encoder(CONFIG_MAPPING[architecture], values, name)
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


def _check_encoder(kind: type[PreTrainedConfig], values: dict[str, Any], name: str) -> None:
    """Raise BackboneLoadError where a configuration is not that of an encoder."""
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    if causal or values.get("is_decoder"):
        raise BackboneLoadError(
            f"Model {name!r} ({kind.model_type}) is a causal language model; backbone 'bert' reads encoders. "
            f'Use backbone="llm" for it, or choose an encoder.'
        )
    if getattr(kind, "is_encoder_decoder", False) or kind not in MODEL_MAPPING:
        raise BackboneLoadError(
            f"Model {name!r} ({kind.model_type}) is no encoder of the BERT family. Choose a model such as "
            "'sentence-transformers/all-MiniLM-L6-v2', 'FacebookAI/roberta-base' or 'answerdotai/ModernBERT-base'."
        )


def position_limit(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model can read at once, or None where its configuration gives no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in _OFFSET_POSITIONS:
        return positions
    return positions - int(config.pad_token_id) - 1


def build_model(config: PreTrainedConfig, folder: Path | None, request: LoadRequest) -> PreTrainedModel:
    """Return the encoder, in evaluation mode, with this package's attention and dropout where they fit.

    Parameters
    ----------
    config : PreTrainedConfig
        From :func:`make_config`.
    folder : Path or None
        Folder with safetensors weights; None starts from random weights.
    request : LoadRequest
        Type and quantisation of the weights.

    Raises
    ------
    BackboneLoadError
        If weights are missing or do not fit.
    """
    kind = _model_class(config)
    extra: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        extra["add_pooling_layer"] = False
    with _quiet():
        if folder is None:
            config._attn_implementation = _attention_for(kind)
            model = kind(config, **extra).to(request.dtype)
        else:
            model = _read_weights(kind, config, folder, request, extra)
    replace_dropout(model)
    return model.eval()


def _attention_for(kind: type[PreTrainedModel]) -> str:
    """Return the name of the attention function; DeBERTa and MPNet have only their own, which is called eager."""
    if not getattr(kind, "_supports_attention_backend", False):
        return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
    return attention.NAME


def _read_weights(
    kind: type[PreTrainedModel], config: PreTrainedConfig, folder: Path, request: LoadRequest, extra: dict[str, Any]
) -> PreTrainedModel:
    if request.quantization is not None:
        extra = {**extra, "quantization_config": request.quantization}
    try:
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=request.dtype,
            attn_implementation=_attention_for(kind),
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
            "they are of another architecture than config.json says, or incomplete."
        )
    return model


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    found = MODEL_MAPPING[type(config)]
    kind: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return kind


@contextmanager
def _quiet() -> Iterator[None]:
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
