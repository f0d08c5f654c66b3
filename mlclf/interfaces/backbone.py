"""Backbone: what reads the text."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlclf.encoding import EncodedTexts, TextEncoder
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces.batch import Batch
from mlclf.interfaces.memory import MemoryReader
from mlclf.options import Options as OptionsBase

Family = Literal["encoder", "causal-lm", "masked-lm", "other"]
PaddingSide = Literal["left", "right"]


@dataclass(frozen=True)
class BackboneOutput:
    """What a backbone computes for a batch.

    Parameters
    ----------
    tokens : Tensor, shape (n_rows, length, hidden)
        State of every token after the last layer.
    mask : Tensor of bool, shape (n_rows, length)
        True where there is a token.
    pooled : Tensor, shape (n_rows, hidden)
        One vector a row, by the backbone's pooling.
    vocabulary : nn.Module or None
        The backbone's output layer over the vocabulary, where the head asked for it.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    vocabulary: nn.Module | None = None


@dataclass(frozen=True)
class LoadRequest:
    """How a strategy wants the weights to be loaded.

    Parameters
    ----------
    dtype : torch.dtype
        Type of the loaded weights.
    quantization : Any
        A transformers quantisation config, or None.
    device_map : str or None
        How weights are spread over devices, for transformers; None puts them on one.
    device : torch.device or None
        Where weights are quantised: where the model will stand, as that takes minutes on a processor and seconds on a
        GPU. None quantises on the processor. Other weights are loaded there in any case.
    weights : bool
        False builds the architecture without reading weights: they will be put in from a saved model.
    reserved_length : int
        Positions of the model that the strategy's virtual tokens take: texts may be so many tokens shorter.
    vocabulary : bool
        Whether the head needs the model's output layer over its vocabulary.
    """

    dtype: torch.dtype = torch.float32
    quantization: Any = None
    device_map: str | None = None
    device: torch.device | None = None
    weights: bool = True
    reserved_length: int = 0
    vocabulary: bool = False


@dataclass(frozen=True)
class BackboneSource:
    """Where a backbone's weights come from, so that a saved model can find and check them again.

    Parameters
    ----------
    kind : {"hub", "folder", "package", "none"}
        "none": there are no pretrained weights, everything is in the saved model.
    name : str
        Model id, folder or package name.
    revision : str or None
        Commit of the hub or version of the package.
    sha256 : dict of str to str
        Checksum of each weight file, by file name; empty for hub models, whose revision identifies them.
    """

    kind: Literal["hub", "folder", "package", "none"]
    name: str
    revision: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)

    def same_weights(self, other: BackboneSource) -> bool | None:
        """Say whether another source holds the weights of this one, as far as this one tells.

        Parameters
        ----------
        other : BackboneSource

        Returns
        -------
        bool or None
            Checksums decide where this source has some, else its revision. None where it has neither: then nothing is
            known, and whoever asks must say whether that will do.

        Examples
        --------
        >>> trained_on = BackboneSource(kind="hub", name="org/model", revision="abc")
        >>> trained_on.same_weights(BackboneSource(kind="hub", name="org/model", revision="def"))
        False
        >>> BackboneSource(kind="none", name="words").same_weights(trained_on) is None
        True
        """
        if self.sha256:
            return self.sha256 == other.sha256
        return None if self.revision is None else self.revision == other.revision


class Backbone(MemoryReader, nn.Module, ABC):
    """Base of all backbones.

    A backbone is created with its options (cheap), then loaded (expensive). It owns tokenizer, padding, pooling
    and the places that strategies adapt; heads see :class:`BackboneOutput` only.

    Parameters
    ----------
    options : Options
        An object of the class named in ``Options``.

    Attributes
    ----------
    Options : type
        Class of its options, whose ``component`` is the registered name; must be set.
    family : {"encoder", "causal-lm", "masked-lm", "other"}
        What kind of model it is; strategies and heads declare which families they work with.
    exportable : bool
        Whether it can be exported to ONNX.
    hidden_size : int
        Size of a token state; set by ``load``.
    pad_id : int
        Token id of padding; set by ``set_tokenizer``.
    padding_side : {"right", "left"}
        Where padding stands.
    window_aggregation : {"max", "mean"}
        How the logits of a long text's windows become those of the text.
    model : nn.Module
        The pretrained part, which strategies adapt; set by ``load``.
    pooling : nn.Module
        Maps ``(tokens, mask)`` to ``(n_rows, hidden)``; what it learns is trained and saved with the head.
    encoder : TextEncoder
        Tokenizer with this backbone's length rule; set by ``load``.
    learning_rate_scale : float
        Times a strategy's own rate of the backbone, which is tuned on pretrained transformers: vectors that are learned
        from nothing need a hundred times as much. Rates that a user gives are taken as they are.
    vocabulary : nn.Module or None
        Maps states ``(n, hidden)`` and, on request, token ids to logits ``(n, n_tokens)``; set by ``load`` where it
        was asked for. It is frozen but for weights that it shares with ``model``.
    chat_template : str or None
        Jinja source of the form in which the model reads conversations; set by ``load`` where its files have one.
    special_tokens : dict of str to str
        Special tokens by the names that chat templates use (``"bos_token"``, ``"eos_token"``); set by ``load``.

    Examples
    --------
    A whole backbone, which looks up one learned vector a token:

    >>> import torch
    >>> from mlclf.interfaces import Backbone, BackboneSource
    >>> from mlclf.options import Options
    >>> class BagOptions(Options):
    ...     component = "local:bag"
    ...     hidden: int = 8
    >>> class Bag(Backbone):
    ...     Options = BagOptions
    ...     family = "other"
    ...     def load(self, request, folder=None):
    ...         from mlclf.testing import tiny_tokenizer
    ...         self.set_tokenizer(tiny_tokenizer(), pad_id=0, max_length=64)
    ...         self.model = torch.nn.Embedding(self.encoder.tokenizer.get_vocab_size(), self.options.hidden)
    ...         self.hidden_size = self.options.hidden
    ...     def source(self):
    ...         return BackboneSource(kind="none", name="bag")
    ...     def token_states(self, batch):
    ...         return self.model(batch.input_ids)
    """

    Options: ClassVar[type[OptionsBase]]
    family: ClassVar[Family] = "encoder"
    exportable: ClassVar[bool] = True
    learning_rate_scale: ClassVar[float] = 1.0

    model: nn.Module
    pooling: nn.Module
    hidden_size: int
    pad_id: int
    padding_side: PaddingSide = "right"
    encoder: TextEncoder
    vocabulary: nn.Module | None
    chat_template: str | None
    special_tokens: dict[str, str]
    window_aggregation: Literal["max", "mean"] = "max"

    def __init__(self, options: OptionsBase) -> None:
        super().__init__()
        self.options = options
        self.vocabulary = None
        self.chat_template = None
        self.special_tokens = {}

    @abstractmethod
    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        """Set ``model``, ``pooling``, ``encoder``, ``hidden_size`` and ``pad_id``.

        Parameters
        ----------
        request : LoadRequest
            Type and quantisation of the weights.
        folder : Path or None
            Folder written by :meth:`save_files` to load from; None loads from where the options say.

        Raises
        ------
        BackboneLoadError
            If files are absent, unreachable or unusable.
        """

    @abstractmethod
    def token_states(self, batch: Batch) -> Tensor:
        """Return the states after the last layer, ``(n_rows, length, hidden)``, starting at ``batch.first_layer``."""

    @abstractmethod
    def source(self) -> BackboneSource:
        """Say where the pretrained weights come from."""

    def count_weights(self) -> int | None:
        """Return how many weights :meth:`load` would read, or None where only loading tells.

        Nothing is loaded. ``strategy="auto"`` asks it whether training fits into memory.

        Raises
        ------
        BackboneLoadError
            If the configuration is absent or unusable.
        """
        return None

    def forward(self, batch: Batch) -> BackboneOutput:
        """Read a batch."""
        tokens = self.token_states(batch)
        mask = batch.attention_mask.bool()
        return BackboneOutput(tokens, mask, self.pooling(tokens, mask), self.vocabulary)

    def sibling(self, options: OptionsBase) -> Backbone:
        """Return a backbone over the same tensors with modules of its own, which a strategy can adapt by itself.

        Parameters
        ----------
        options : Options
            Those of the new backbone; they may differ in what does not concern the weights.

        Returns
        -------
        Backbone
            Its pooling is a new one.

        Raises
        ------
        IncompatibleComponentsError
            If the options describe another model.
        """
        if options != self.options:
            raise IncompatibleComponentsError(
                f"Backbone {self.options.component!r} shares its weights under the options that it was loaded with "
                f"only: {self.options!r}, got {options!r}. Use the same options for all tasks."
            )
        return self._copy_sharing_tensors()

    def _copy_sharing_tensors(self) -> Self:
        """Copy everything but the model's tensors and the encoder, which never change."""
        shared = [*self.model.parameters(), *self.model.buffers(), self.encoder]
        return copy.deepcopy(self, {id(value): value for value in shared})

    def set_tokenizer(self, tokenizer: Any, *, pad_id: int, max_length: int, window_stride: int | None = None) -> None:
        """Take a ``tokenizers.Tokenizer`` and the length rule; for use inside ``load``."""
        self.pad_id = pad_id
        self.encoder = TextEncoder(tokenizer, max_length=max_length, window_stride=window_stride)

    def reserve(self, n_tokens: int) -> None:
        """Leave room for ``n_tokens`` further tokens behind each text; called by heads that read such, in ``bind``.

        The default does nothing, for backbones that read texts of any length.

        Raises
        ------
        BackboneLoadError
            If there is no room beside the length of texts that the options ask for.
        """

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Turn texts into token ids under this backbone's length rule."""
        return self.encoder.encode(texts)

    def collate(self, encoded: EncodedTexts, rows: NDArray[np.int64]) -> Batch:
        """Pad the windows of some samples into a batch.

        Parameters
        ----------
        encoded : EncodedTexts
            Token ids of all samples.
        rows : ndarray of int64, shape (n_samples,)
            The samples wanted.

        Returns
        -------
        Batch
            Without targets.
        """
        windows, owners = encoded.windows_of(rows)
        ids, mask = encoded.padded(windows, self.pad_id, self.padding_side)
        return Batch(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            n_samples=len(rows),
            row_samples=None if len(windows) == len(rows) else torch.from_numpy(owners),
        )

    def example_batch(self) -> Batch:
        """Return a batch of two short texts, one of them padded, to try the model on."""
        return self.collate(self.encode(["a", "two words"]), np.arange(2))

    def aggregate_windows(self, values: Tensor, batch: Batch) -> Tensor:
        """Reduce one value a window to one a sample by ``window_aggregation``.

        Parameters
        ----------
        values : Tensor, shape (n_rows, n_labels)
            Logits of every window.
        batch : Batch
            The batch they belong to.

        Returns
        -------
        Tensor, shape (n_samples, n_labels)
        """
        if batch.row_samples is None:
            return values
        index = batch.row_samples[:, None].expand_as(values)
        out = values.new_zeros(batch.n_samples, values.shape[1])
        reduce = "amax" if self.window_aggregation == "max" else "mean"
        return out.scatter_reduce(0, index, values, reduce=reduce, include_self=False)

    @property
    def n_layers(self) -> int:
        """Number of layers that can be frozen or cached one by one; 0 where there is no such stack."""
        return 0

    def layers(self) -> list[nn.Module]:
        """Return the layers of the stack from the text upwards; empty where there is no such stack."""
        return []

    def lower_states(self, batch: Batch, n_layers: int) -> Tensor:
        """Return the states after the first ``n_layers`` layers, to be cached where they are constant."""
        raise NotImplementedError(f"{type(self).__name__} has no stack of layers.")

    def lower_parameters(self, n_layers: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of the embeddings and the first ``n_layers`` layers."""
        return iter(())

    def unused_parameters(self) -> set[str]:
        """Names in ``model`` that take no part in the forward pass and must never be trained."""
        return set()

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        raise IncompatibleComponentsError(
            f"Backbone {self.options.component!r} does not support gradient checkpointing. "
            "Use TrainingOptions(gradient_checkpointing=False)."
        )

    def save_files(self, folder: Path) -> None:
        """Write what is needed, beside weights, to build the architecture again (configs; never code)."""
