"""PretrainedBackbone: a transformers model with its tokenizer and a pooling, whatever its architecture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from mlclf.backbones.building import build_model, count_weights, make_config
from mlclf.backbones.chat_files import read_chat_template, read_special_tokens, write_chat_files
from mlclf.backbones.files import (
    check_vocabulary,
    check_weights,
    find_config,
    find_model,
    find_pad_id,
    read_config,
    read_tokenizer,
    write_files,
)
from mlclf.backbones.lengths import text_length
from mlclf.backbones.pooling import PoolingName, make_pooling
from mlclf.backbones.stack import LayerStack, unused_parameters
from mlclf.backbones.visibility import model_inputs
from mlclf.exceptions import BackboneLoadError, IncompatibleComponentsError
from mlclf.interfaces import Backbone, BackboneSource, Batch, LoadRequest
from mlclf.options import Options

# Options that say how texts are read, not by which weights; where the weights lie is not what they are.
_NOT_OF_WEIGHTS = frozenset(
    {"model", "revision", "pooling", "max_length", "window_stride", "window_aggregation", "dropout"}
)


class PretrainedOptions(Options):
    """What the options of all pretrained backbones have in common.

    Parameters
    ----------
    model : str
        Model id of the hub or local folder.
    revision : str or None
        Branch, tag or commit of a model id.
    max_length : int or None
        Tokens read at once, special tokens included; None takes what the model allows, at most 512.
    window_stride : int or None
        None cuts long texts; a number splits them into windows that overlap by so many tokens.
    window_aggregation : {"max", "mean"}
        How the logits of a text's windows become one.
    dropout : float or None
        Dropout of hidden states and attention in training; None takes the model's own.
    """

    model: str = Field(min_length=1)
    revision: str | None = None
    max_length: int | None = Field(default=None, ge=1)
    window_stride: int | None = Field(default=None, ge=0)
    window_aggregation: Literal["max", "mean"] = "max"
    dropout: float | None = Field(default=None, ge=0, lt=1)


class PretrainedBackbone(Backbone):
    """Base of backbones that are transformers models with a tokenizer and a pooling.

    A subclass says which architectures it reads (:meth:`check_architecture`), what the model is called with
    (:meth:`inputs`) and which attention it computes with. No code of a model repository is ever run.

    Parameters
    ----------
    options : PretrainedOptions
        Which model, and how it is read.
    """

    options: PretrainedOptions
    takes_masks = True

    def __init__(self, options: PretrainedOptions) -> None:
        super().__init__(options)
        self.window_aggregation = options.window_aggregation
        self._config: dict[str, Any] = {}
        self._source: BackboneSource | None = None
        self._stack: LayerStack | None = None
        self._unused: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def pooling_name(self) -> PoolingName:
        """Name of the pooling."""

    @abstractmethod
    def check_architecture(self, kind: type[PreTrainedConfig], values: dict[str, Any]) -> None:
        """Raise BackboneLoadError where this backbone does not read a model.

        Parameters
        ----------
        kind : type
            Class of the model's configuration.
        values : dict
            Content of its ``config.json``.
        """

    @abstractmethod
    def attention_for(self, kind: type[PreTrainedModel]) -> str:
        """Return the name of the attention function that a class of models is to compute with."""

    def adjust_config(self, config: PreTrainedConfig) -> None:
        """Change a configuration before the model is built from it."""

    def adjust_model(self, model: PreTrainedModel) -> None:
        """Change, or refuse, a model before it is run for the first time."""

    def weight_request(self, request: LoadRequest) -> LoadRequest:
        """Return what the strategy asks for, changed by what the options say."""
        return request

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """Return what the model is called with."""
        return model_inputs(cast(PreTrainedModel, self.model), batch)

    def locate(self) -> tuple[Path, BackboneSource]:
        """Return the local folder with the model's files, and where they come from.

        Plugins that bring their own weights override this method.
        """
        return find_model(self.options.model, self.options.revision)

    def count_weights(self) -> int:
        """Return how many weights the model has, by its configuration alone."""
        # A plugin that brings its own weights knows where they are; of a hub model no weights are fetched for this.
        own = type(self).locate is not PretrainedBackbone.locate
        folder = self.locate()[0] if own else find_config(self.options.model, self.options.revision)
        return count_weights(make_config(read_config(folder), str(folder), self.check_architecture, None))

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Load model and tokenizer.

        Parameters
        ----------
        request : LoadRequest
            Type and quantisation of the weights; without weights the architecture starts from random ones.
        folder : Path or None
            Folder written by :meth:`save_files`. Where it holds no weights and some are asked for, they come from
            :meth:`locate`.
        """
        files, weights = self._find(request, folder)
        self._config = read_config(files)
        config = make_config(self._config, str(files), self.check_architecture, self.options.dropout)
        config.use_cache = False  # keys and values are kept for generating text, which nobody does here
        self.adjust_config(config)
        tokenizer = read_tokenizer(files)
        check_vocabulary(tokenizer, config.vocab_size, str(files))
        self.chat_template = read_chat_template(files)
        self.special_tokens = read_special_tokens(files, tokenizer, self._config)
        self._config["pad_token_id"] = find_pad_id(tokenizer, config.pad_token_id)
        self.set_tokenizer(
            tokenizer,
            pad_id=self._config["pad_token_id"],
            max_length=self._max_length(config, request.reserved_length),
            window_stride=self.options.window_stride,
        )
        request = self.weight_request(request)
        model, self.vocabulary = build_model(config, weights, request, self.attention_for)
        self.adjust_model(model)
        self.model = model
        self.hidden_size = int(config.hidden_size)
        self.pooling = make_pooling(self.pooling_name, self.hidden_size)
        self._explore(int(config.num_hidden_layers))

    def _explore(self, n_layers: int) -> None:
        """Find the layer stack and the unused parameters with a run over two short texts."""
        batch = self.example_batch().to(next(self.model.parameters()).device)
        try:
            self._unused = unused_parameters(self.model, self.inputs(batch))
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise BackboneLoadError(
                f"Model {self.options.model!r} cannot be run on token ids alone: {error}. Choose a text encoder."
            ) from error
        self._stack = LayerStack.find(self.model, n_layers, self.inputs(batch))

    def _find(self, request: LoadRequest, folder: Path | None) -> tuple[Path, Path | None]:
        """Return the folder with the files and the folder with the weights, None where there are none to read."""
        if folder is not None and not request.weights:
            self._source = BackboneSource(kind="none", name=self.options.model)
            return folder, None
        located, self._source = self.locate()
        if not request.weights:
            return located, None
        check_weights(located)
        return folder or located, located

    def _max_length(self, config: Any, reserved: int) -> int:
        return text_length(config, self.options.model, self.options.max_length, reserved)

    def reserve(self, n_tokens: int) -> None:
        """Leave room for ``n_tokens`` further tokens behind each text, if need be by cutting texts earlier."""
        self._read_at_most(self._max_length(self.model.config, n_tokens))

    def _read_at_most(self, limit: int) -> None:
        """Take another length of texts, by the options' rule for longer ones."""
        stride = self.options.window_stride
        if (limit, stride) != (self.encoder.max_length, self.encoder.window_stride):
            self.set_tokenizer(self.encoder.tokenizer, pad_id=self.pad_id, max_length=limit, window_stride=stride)

    def sibling(self, options: Options) -> PretrainedBackbone:
        """Return a backbone over the same tensors; pooling and the rule for long texts may be others.

        Dropout stays that of the loaded model.
        """
        given, own = options.get_params(), self.options.get_params()
        differing = sorted(name for name in own if name not in _NOT_OF_WEIGHTS and own[name] != given.get(name))
        if type(options) is not type(self.options) or differing:
            raise IncompatibleComponentsError(
                f"Backbones over the same weights may differ in {', '.join(sorted(_NOT_OF_WEIGHTS))}; "
                f"{options!r} differs from {self.options!r} in {', '.join(differing) or 'the component'}."
            )
        twin = self._copy_sharing_tensors()
        twin.options = options
        twin.window_aggregation = twin.options.window_aggregation
        twin._read_at_most(twin._max_length(twin.model.config, reserved=0))
        twin.pooling = make_pooling(twin.pooling_name, twin.hidden_size)
        return twin

    def source(self) -> BackboneSource:
        """Say where the pretrained weights come from."""
        if self._source is None:
            raise BackboneLoadError("The backbone is not loaded. Call load first.")
        return self._source

    def token_states(self, batch: Batch) -> Tensor:
        """Return the states after the last layer, starting at ``batch.first_layer`` from ``batch.states``."""
        if batch.first_layer == 0:
            states: Tensor = self.model(**self.inputs(batch)).last_hidden_state
            return states
        if batch.states is None:
            raise ValueError(f"first_layer={batch.first_layer} needs the states of that layer in batch.states.")
        return self._require_stack().run_from(self.model, batch.first_layer, batch.states, self.inputs(batch))

    def lower_states(self, batch: Batch, n_layers: int) -> Tensor:
        """Return the states after the first ``n_layers`` layers; after all of them, the final token states."""
        return self._require_stack().states_after(self.model, n_layers, self.inputs(batch))

    @property
    def n_layers(self) -> int:
        """Number of layers of the stack; 0 where layers share weights or cannot be run one part at a time."""
        return 0 if self._stack is None else self._stack.n_layers

    def layers(self) -> list[nn.Module]:
        """Return the layers from the text upwards; empty where :attr:`n_layers` is 0."""
        return [] if self._stack is None else self._stack.layers(self.model)

    def lower_parameters(self, n_layers: int) -> Iterator[nn.Parameter]:
        """Yield the parameters that the states after the first ``n_layers`` layers depend on.

        These are the embeddings, those layers, and what layers share (DeBERTa's and MPNet's relative positions).
        After all layers it is every parameter that takes part in the forward pass.
        """
        return self._require_stack().lower_parameters(self.model, n_layers)

    def unused_parameters(self) -> set[str]:
        """Names in ``model`` that take no part in the forward pass."""
        return set(self._unused)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        if not getattr(self.model, "supports_gradient_checkpointing", False):
            super().enable_gradient_checkpointing()
        cast(PreTrainedModel, self.model).activation_checkpointing_enable({"use_reentrant": False})

    def save_files(self, folder: Path) -> None:
        """Write ``config.json`` and ``tokenizer.json``, and how the model reads conversations where it does."""
        write_files(folder, self._config, self.encoder.tokenizer)
        write_chat_files(folder, self.chat_template, self.special_tokens)

    def _require_stack(self) -> LayerStack:
        if self._stack is None:
            raise IncompatibleComponentsError(
                f"The layers of {self.options.model!r} cannot be run one part at a time. "
                "Choose a strategy that trains or freezes the model as a whole."
            )
        return self._stack
