"""Head: how labels come out of what a backbone read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mlclf.encoding import EncodedTexts, TextEncoder
from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces.backbone import Backbone, BackboneOutput, Family
from mlclf.interfaces.batch import Batch
from mlclf.labels import Targets
from mlclf.options import Options as OptionsBase

# Two AVX-512 registers of float32, the most that torch computes at once.
_REGISTERS = 32


@dataclass(frozen=True)
class HeadCapabilities:
    """What a head needs and can do; compared with backbone and strategy before anything is loaded.

    Parameters
    ----------
    families : frozenset of str
        Backbone families it can read.
    padding : {"any", "left", "right"}
        Padding side it needs.
    reads : {"pooled", "tokens"}
        Whether the pooled vector is all it uses of a backbone's output; then that vector can be computed once where
        the whole backbone is constant.
    logits : bool
        Whether it gives one logit a label, so that every loss can be used.
    label_text : bool
        Whether it reads the labels' names.
    windows : bool
        Whether a sample may consist of several windows.
    export : bool
        Whether it can be exported to ONNX.
    zero_shot : bool
        Whether it is usable before ``fit``.
    vocabulary : bool
        Whether it needs the backbone's output layer over the vocabulary.
    masks : bool
        Whether it needs a backbone that honours ``Batch.position_ids`` and ``Batch.visible``.
    memory : bool
        Whether it needs a backbone that remembers what it has read. A head that needs masks or memory reads other
        tokens than those of the text: outputs of constant layers are then not kept from epoch to epoch.
    relative : bool
        Whether its answer for a label depends on which other labels there are, so that it answers anew for all of them
        once there are more.
    learns : bool
        Whether it has weights of its own; a head without them needs a strategy that trains something.
    """

    families: frozenset[Family] = frozenset({"encoder", "causal-lm", "masked-lm", "other"})
    padding: Literal["any", "left", "right"] = "any"
    reads: Literal["pooled", "tokens"] = "tokens"
    logits: bool = True
    label_text: bool = False
    windows: bool = True
    export: bool = True
    zero_shot: bool = False
    vocabulary: bool = False
    masks: bool = False
    memory: bool = False
    relative: bool = False
    learns: bool = True


@dataclass(frozen=True)
class LabelStatistics:
    """Counts of the training rows that heads and losses may use.

    Parameters
    ----------
    names : tuple of str, length n_labels
        Label names in column order.
    positives : ndarray of int64, shape (n_labels,)
        Rows to which each label applies.
    known : ndarray of int64, shape (n_labels,)
        Rows for which it is known whether each label applies.
    targets : Targets or None
        The training targets themselves, for losses that need label co-occurrence; None when a saved model is
        loaded.
    """

    names: tuple[str, ...]
    positives: NDArray[np.int64]
    known: NDArray[np.int64]
    targets: Targets | None = None

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.names)


class Head(nn.Module, ABC):
    """Base of all heads; trainer, thresholds and bundle use nothing else.

    The life of a head: ``check`` -> ``bind`` (once the labels are known) -> ``encode`` the texts -> for each batch
    ``collate`` and ``losses``, or ``refresh`` and then ``probabilities`` -> ``grow`` where more is learned later. What
    learns are this module's parameters.

    Parameters
    ----------
    options : Options
        An object of the class named in ``Options``.

    Attributes
    ----------
    Options : type
        Class of its options, whose ``component`` is the registered name; must be set.
    capabilities : HeadCapabilities
        What it declares; an object may declare something else than its class where that depends on options.
    """

    Options: ClassVar[type[OptionsBase]]
    capabilities: HeadCapabilities = HeadCapabilities()

    def __init__(self, options: OptionsBase) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def described(cls, options: OptionsBase, descriptions: dict[str, str]) -> OptionsBase:
        """Return the options with what labels mean, for :meth:`MultiLabelClassifier.zero_shot`.

        The default sets an option ``descriptions``.

        Raises
        ------
        IncompatibleComponentsError
            If the head reads no descriptions.
        """
        if "descriptions" not in type(options).model_fields:
            raise IncompatibleComponentsError(
                f"Head {options.component!r} reads no descriptions of labels. Leave them out; if it takes words for a "
                "label, give these in its options."
            )
        return options.replace(descriptions=descriptions).validated()

    def check(self, labels: LabelStatistics) -> None:
        """Raise OptionsError where the options do not fit the labels; called before anything is loaded."""

    @abstractmethod
    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Create what depends on the backbone's size and on the labels."""

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> Head:
        """Return a head for more labels that answers for those it has as this one does; this one stays as it is.

        Called when labels are added to a fitted model, and with the same labels when their counts have changed. The
        default binds a new head and copies every tensor into it; where a dimension grew with the number of labels, the
        further ones keep what ``bind`` gave them. A head whose answer for a label depends on which other labels there
        are says so (``HeadCapabilities.relative``) or refuses to grow, as the default does where it cannot copy.

        Parameters
        ----------
        backbone : Backbone
        before : LabelStatistics
            Of the labels that this head was bound to.
        after : LabelStatistics
            Of the same labels, and of further ones behind them.

        Returns
        -------
        Head
            Bound.

        Raises
        ------
        IncompatibleComponentsError
            If this head cannot grow.
        """
        grown = type(self)(self.options)
        grown.check(after)
        grown.bind(backbone, after)
        _copy_known(self, grown, before.n_labels, after.n_labels)
        return grown

    def refresh(self, backbone: Backbone) -> None:
        """Compute anew what the head keeps of the backbone's weights, such as vectors of the labels; in its buffers.

        Called in evaluation mode, before probabilities are asked for, whenever weights have been trained. The default
        keeps nothing.
        """

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Look at saved tensors, by their names in this module, before they are put into this bound head.

        Raises
        ------
        BundleDamagedError
            If they were made for something else than what this head is bound to.
        """

    def validation_figures(self) -> dict[str, float]:
        """Return figures of its own of the batches with targets since the last call, for the training history."""
        return {}

    @abstractmethod
    def losses(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the loss of each sample, shape (n_samples,)."""

    @abstractmethod
    def probabilities(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the marginal probability of each label, float32 ``(n_samples, n_labels)``."""

    def text_encoder(self, backbone: Backbone) -> TextEncoder:
        """Return what turns texts into token ids; a head with a prompt has one that puts it around every text.

        An exported model encodes texts by it.
        """
        return backbone.encoder

    def encode(self, backbone: Backbone, texts: Sequence[str]) -> EncodedTexts:
        """Turn texts into token ids, by the backbone where :meth:`text_encoder` is its own."""
        encoder = self.text_encoder(backbone)
        return backbone.encode(texts) if encoder is backbone.encoder else encoder.encode(texts)

    def collate(
        self, backbone: Backbone, encoded: EncodedTexts, rows: NDArray[np.int64], targets: Targets | None
    ) -> Batch:
        """Make a batch of some samples.

        Parameters
        ----------
        backbone : Backbone
        encoded : EncodedTexts
            All samples.
        rows : ndarray of int64, shape (n_samples,)
            The samples wanted.
        targets : Targets or None
            Targets of all samples; None at prediction.
        """
        batch = backbone.collate(encoded, rows)
        if targets is None:
            return batch
        dense, known = targets.dense(rows)
        return replace(batch, targets=torch.from_numpy(dense), known=None if known is None else torch.from_numpy(known))

    def prompt_files(self) -> dict[str, Any]:
        """Return what a program needs to put this head's question to the merged model by itself.

        Returns
        -------
        dict of str to JSON value
            By file name, such as ``"prompt.json"``: :meth:`MultiLabelClassifier.merge_and_save` writes them beside the
            weights. Empty where the question is not put in words.
        """
        return {}


class LogitsHead(Head):
    """Base of heads that map features to one logit a label.

    Subclasses write ``bind`` and ``features_to_logits``; the loss is made in ``bind``, with
    :func:`mlclf.losses.make_loss` where the user chooses it, and stored as ``self.loss``.

    Attributes
    ----------
    loss : nn.Module
        Maps ``(logits, targets, known)`` to the loss of each sample; set by ``bind``.

    Examples
    --------
    A whole head, which scores the mean of the token states:

    >>> from torch import nn
    >>> from mlclf.interfaces import LogitsHead
    >>> from mlclf.losses import BceLoss
    >>> from mlclf.options import Options
    >>> class MeanOptions(Options):
    ...     component = "local:mean"
    >>> class Mean(LogitsHead):
    ...     Options = MeanOptions
    ...     def bind(self, backbone, labels):
    ...         self.linear = nn.Linear(backbone.hidden_size, labels.n_labels)
    ...         self.loss = BceLoss()
    ...     def features_to_logits(self, output):
    ...         return self.linear(output.tokens.mean(dim=1))
    """

    loss: nn.Module

    @abstractmethod
    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits of each row (window), shape (n_rows, n_labels)."""

    def features(self, backbone: Backbone, batch: Batch) -> BackboneOutput:
        """Return what the logits are computed from: what the backbone makes of the texts.

        Heads that read more than the texts override it.
        """
        output: BackboneOutput = backbone(batch)
        return output

    def logits(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return logits of each sample, float32 ``(n_samples, n_labels)``; windows are aggregated here."""
        rows = self.features_to_logits(self.features(backbone, batch)).float()
        return backbone.aggregate_windows(rows, batch)

    def losses(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the loss of each sample, shape (n_samples,)."""
        loss: Tensor = self.loss(self.logits(backbone, batch), batch.targets, batch.known)
        return loss

    def probabilities(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the sigmoid of the logits: the one place where logits become probabilities."""
        logits = self.logits(backbone, batch)
        # A processor computes the last cells of a matrix one by one, and rounds them otherwise than whole registers of
        # cells. With rows of whole registers an answer does not depend on how many labels stand beside it.
        return torch.sigmoid(F.pad(logits, (0, -logits.shape[1] % _REGISTERS)))[:, : logits.shape[1]]


@torch.no_grad()
def _copy_known(old: Head, new: Head, n_old: int, n_new: int) -> None:
    """Copy what a head has learned into one for more labels."""
    source, target = old.state_dict(), new.state_dict()
    for name in sorted({*source, *target}):
        region = target.get(name)
        shape = source[name].shape if name in source else ()
        if region is not None and region.ndim == len(shape):
            for dim, (has, needs) in enumerate(zip(shape, region.shape, strict=True)):
                if (has, needs) == (n_old, n_new):
                    region = region.narrow(dim, 0, n_old)
        if region is None or region.shape != shape:
            raise IncompatibleComponentsError(
                f"Head {old.options.component!r} cannot take further labels: its tensor {name!r} does not grow with "
                "them. Fit a new model on all rows with all labels."
            )
        region.copy_(source[name])
