"""Head ``label-query``: the text is read once, every label's name behind it, and each gives one logit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from mlclf.exceptions import BundleDamagedError, UnknownLabelError
from mlclf.heads.bias import first_bias
from mlclf.heads.label_branches import LabelBranches, branch_ids
from mlclf.heads.label_query_reading import Readout, packing_fails, read_batched, read_packed
from mlclf.heads.precision import without_autocast
from mlclf.heads.state_scorer import StateScorer
from mlclf.heads.word_logits import CONTENT_FREE
from mlclf.heads.yes_no import YesNoScorer, with_mask
from mlclf.interfaces.backbone import Backbone, BackboneOutput
from mlclf.interfaces.batch import Batch
from mlclf.interfaces.head import HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import LossChoice, make_loss
from mlclf.losses.statistics import did_you_mean
from mlclf.options import Options

logger = logging.getLogger(__name__)

# Room for names is left in steps, so that labels which are added later rarely change how much of a text is read.
_ROOM = 16
_PLACE = "{label}"


class LabelQueryOptions(Options):
    r"""How the head ``label-query`` is built and trained.

    Parameters
    ----------
    loss : str or LossOptions
        As for the head ``bce``: ``"bce"``, ``"focal"``, ``FocalOptions(gamma=1)``, ...
    descriptions : dict of str to str, or None
        What labels mean, by label name, read behind the name. Labels without one are read by their names.
    template : str or None
        What is read for a label, with ``{label}`` in the place of the name. None is the name alone for encoders, which
        close it by their special token, and ``"\n{label}:"`` for causal models.
    readout : {"auto", "last", "mean"}
        Which state of a label's tokens is scored. ``"auto"`` is the last one for causal models, which alone has read
        all of them, and their mean for others.
    chunk : int
        Tokens of labels that are read at once behind a text: memory and the mask are as large as this asks for, however
        many labels there are.
    scorer : {"linear", "verbalizer"}
        What makes a logit of a label's state: a linear layer that is learned; or what the model's own output layer
        answers behind ``"label:"``, yes or no, which needs no training. An encoder must have been saved with that
        layer, and is asked for a hidden word. ``readout`` and ``dropout`` are for the linear layer.
    yes, no : list of str
        The answers with ``scorer="verbalizer"``, in the language of the texts.
    dropout : float
        Share of the state's values that are zeroed in training.
    prior_bias : bool
        Start the labels' biases at the logits of their frequencies instead of 0.
    label_weights : dict of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Examples
    --------
    >>> from mlclf.heads.label_query import LabelQueryOptions
    >>> LabelQueryOptions(descriptions={"joy": "the writer is happy"}, loss="focal").chunk
    512
    """

    component = "label-query"
    loss: LossChoice = "bce"
    descriptions: dict[str, str] | None = None
    template: str | None = None
    readout: Literal["auto", "last", "mean"] = "auto"
    chunk: int = Field(default=512, ge=1)
    scorer: Literal["linear", "verbalizer"] = "linear"
    yes: Annotated[list[str], Field(min_length=1)] = Field(default=["yes"])
    no: Annotated[list[str], Field(min_length=1)] = Field(default=["no"])
    dropout: float = Field(default=0.1, ge=0, lt=1)
    prior_bias: bool = True
    label_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, value: str | None) -> str | None:
        """Refuse a template in which the name would not stand."""
        if value is not None and _PLACE not in value:
            raise ValueError(f"must hold {_PLACE} where the label's name is to stand, got {value!r}")
        return value


class LabelQueryHead(LogitsHead):
    """One logit a label, from what the backbone makes of the label's name behind the text.

    Text and labels are one sequence with a mask: the text sees itself, every label sees the text and itself, and its
    positions begin where the text ends. So the text is read once, and each label's answer is what it would be alone
    behind the text; that is tested on the loaded model whenever the head is bound. Where an architecture ignores masks
    (layers of linear attention, DeBERTa), each label is read behind the text in a row of its own, and the reason is
    logged. In an encoder that is told so, the text then sees the label too.

    What scores a label's state are weights that all labels share, weights of the label's own, which start at zero
    (``state_scorer``), or the model's own yes against its own no (``yes_no``), and a bias.

    Parameters
    ----------
    options : LabelQueryOptions

    Attributes
    ----------
    branches : LabelBranches
        Token ids of the labels; set by ``bind``.
    scorer : StateScorer
        From a state to a logit; set by ``bind`` where the scorer is linear.
    packed : Tensor of bool, shape ()
        Whether labels are read together; set by ``bind``, and saved.

    References
    ----------
    Chalkidis et al. (2023), "An Exploration of Encoder-Decoder Approaches to Multi-Label Classification for Legal and
    Biomedical Text", Findings of ACL, arXiv:2305.05627: one decoder token a label over an encoded text. Cai et al.
    (2024), "Medusa", arXiv:2401.10774, section 2.1.2: branches in one pass by a mask (tree attention).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mlclf.backbones.bert import BertBackbone, BertOptions
    >>> from mlclf.heads.label_query import LabelQueryHead, LabelQueryOptions
    >>> from mlclf.interfaces import LabelStatistics, LoadRequest
    >>> from mlclf.testing import tiny_encoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertBackbone(BertOptions(model=str(tiny_encoder("bert", folder))))
    ...     backbone.load(LoadRequest())
    >>> head = LabelQueryHead(LabelQueryOptions())
    >>> head.bind(backbone, LabelStatistics(("food", "rain"), positives=np.array([1, 3]), known=np.array([9, 9])))
    >>> head.logits(backbone, backbone.example_batch()).shape
    torch.Size([2, 2])
    """

    Options = LabelQueryOptions
    capabilities = HeadCapabilities(
        families=frozenset({"encoder", "causal-lm", "masked-lm"}), label_text=True, masks=True
    )
    options: LabelQueryOptions
    branches: LabelBranches
    scorer: StateScorer
    packed: Tensor

    def __init__(self, options: LabelQueryOptions) -> None:
        super().__init__(options)
        self.yes_no: YesNoScorer | None = None
        if options.scorer == "verbalizer":
            self.capabilities = replace(type(self).capabilities, zero_shot=True, vocabulary=True)

    def check(self, labels: LabelStatistics) -> None:
        """Refuse weights and descriptions of labels that do not exist.

        Raises
        ------
        UnknownLabelError
        """
        make_loss(self.options.loss, labels, label_weights=self.options.label_weights)
        for name in self.options.descriptions or {}:
            if name not in labels.names:
                raise UnknownLabelError(
                    f"descriptions has {name!r}, which is no label. {did_you_mean(name, labels.names)}"
                )

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Turn the labels into tokens, leave room for them behind the texts, and test how they can be read.

        Raises
        ------
        OptionsError
            If two labels are the same tokens, or one has none.
        BackboneLoadError
            If the longest label does not fit behind a text of ``max_length`` tokens.
        """
        options = self.options
        self.loss = make_loss(options.loss, labels, label_weights=options.label_weights)
        self._readout = self._readout_for(backbone)
        rows = branch_ids(
            backbone.encoder,
            labels.names,
            self._texts(backbone, labels),
            closed=options.scorer == "linear" and not _is_causal(backbone),
        )
        if options.scorer == "verbalizer":
            rows = with_mask(backbone, rows)
        self.branches = LabelBranches(rows)
        backbone.reserve(-(-self.branches.longest // _ROOM) * _ROOM)
        bias = first_bias(options, labels)
        if options.scorer == "linear":
            self.scorer = StateScorer(backbone.hidden_size, bias, options.dropout)
        else:
            self.yes_no = YesNoScorer(backbone, options.yes, options.no, bias)
        reason = packing_fails(backbone, self.branches, self._readout)
        self.register_buffer("packed", torch.tensor(reason is None))
        self._packs = reason is None
        if reason is not None:
            logger.warning("Each label is read in a row of its own behind the text, which takes longer: %s", reason)
        if self.yes_no is not None:
            self._take_baseline(backbone, self.yes_no)

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> LabelQueryHead:
        """Return a head for more labels; labels that no row told about so far start at their prior now.

        Raises
        ------
        OptionsError
            If a further label is the same tokens as one that is there.
        """
        grown = type(self)(self.options)
        grown.check(after)
        grown.bind(backbone, after)
        learned = np.zeros(after.n_labels, dtype=np.bool_)
        learned[: before.n_labels] = before.known > 0 if self.options.prior_bias else True
        kept = torch.from_numpy(learned)
        with torch.no_grad():
            if grown.yes_no is not None and self.yes_no is not None:
                grown.yes_no.take_over(self.yes_no, kept, before.n_labels)
            else:
                grown.scorer.take_over(self.scorer, kept, before.n_labels)
        grown._take_way(self._packs)
        return grown

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse what was trained with other tokens for the labels, and take over how they were read.

        Raises
        ------
        BundleDamagedError
        """
        for name in ("branches.ids", "branches.lengths"):
            own = self.state_dict()[name].cpu()
            if name in state and not torch.equal(state[name].cpu(), own):
                raise BundleDamagedError(
                    "The labels of this model were other tokens when it was trained: its tokenizer, or the way in "
                    "which labels are put into tokens, has changed. Load it with the versions that it was saved with, "
                    "or fit it again."
                )
        if "packed" in state:
            self._take_way(bool(state["packed"]))

    def features(self, backbone: Backbone, batch: Batch) -> BackboneOutput:
        """Return one state a label, in the place of tokens."""
        read = read_packed if self._packs else read_batched
        states = read(backbone, batch, self.branches, self.options.chunk, self._readout)
        mask = torch.ones_like(states[:, :, 0], dtype=torch.bool)
        return BackboneOutput(states, mask, states.mean(dim=1), backbone.vocabulary)

    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits of each row, ``(n_rows, n_labels)``, from one state a label."""
        with without_autocast(output.tokens.device.type):
            if self.yes_no is not None:
                answers: Tensor = self.yes_no(output.tokens, output.vocabulary)
                return answers
            logits: Tensor = self.scorer(output.tokens)
            return logits

    @torch.no_grad()
    def _take_baseline(self, backbone: Backbone, scorer: YesNoScorer) -> None:
        """Ask about all labels behind texts that say nothing."""
        device = next(backbone.model.parameters()).device
        self.to(device)
        backbone.eval()
        batch = backbone.collate(backbone.encode(CONTENT_FREE), np.arange(len(CONTENT_FREE))).to(device)
        output = self.features(backbone, batch)
        scorer.output.baseline.copy_(scorer.evidence(output.tokens, output.vocabulary).mean(dim=0))

    def _take_way(self, packs: bool) -> None:
        """Read labels as another head did: an encoder's answers differ between the two ways."""
        if packs and not self._packs:
            raise BundleDamagedError(
                "The labels of this model were read together when it was trained, and here they change each other. "
                "Load it with the versions of torch and transformers that it was saved with."
            )
        self._packs = packs
        self.packed.fill_(packs)

    def _readout_for(self, backbone: Backbone) -> Readout:
        asked = "last" if self.options.scorer == "verbalizer" else self.options.readout
        if asked != "auto":
            return asked
        return "last" if backbone.causal else "mean"

    def _default_template(self, backbone: Backbone) -> str:
        if _is_causal(backbone):
            return f"\n{_PLACE}:"
        return _PLACE if self.options.scorer == "linear" else f"{_PLACE}:"

    def _texts(self, backbone: Backbone, labels: LabelStatistics) -> list[str]:
        """Return what is read for each label."""
        template = self.options.template or self._default_template(backbone)
        told = self.options.descriptions or {}
        named = [f"{name}: {told[name]}" if name in told else name for name in labels.names]
        return [template.replace(_PLACE, text) for text in named]


def _is_causal(backbone: Backbone) -> bool:
    """Tell whether a backbone was pretrained on continuing texts."""
    return backbone.family == "causal-lm"
