"""Head ``verbalizer``: one logit a label from what a masked language model expects in a prompt's hidden place."""

from __future__ import annotations

from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor, nn

from mlclf.encoding import TextEncoder
from mlclf.exceptions import OptionsError, UnknownLabelError
from mlclf.heads.bias import first_bias, restart_bias
from mlclf.heads.precision import without_autocast
from mlclf.heads.verbalizer_prompt import ClozePrompt, check_template, make_cloze, words_in_place
from mlclf.heads.word_logits import CONTENT_FREE, CalibratedLogits, WordLogits
from mlclf.interfaces.backbone import Backbone, BackboneOutput
from mlclf.interfaces.head import HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.losses import LossOptions, as_loss_options, make_loss
from mlclf.losses.statistics import did_you_mean
from mlclf.options import Options

Word = Annotated[str, Field(min_length=1, pattern=r"\S")]


class VerbalizerOptions(Options):
    """How the head ``verbalizer`` asks the model.

    Parameters
    ----------
    template : str
        What the model reads: ``{text}`` stands for the text and ``{mask}`` for the hidden word. In Chinese:
        ``"{text}这是关于{mask}的。"``.
    words : dict of str to list of str, or None
        Words that speak for a label in the hidden place, by label name. A label that is not named here has its name as
        its only word.
    loss : str or LossOptions
        As for the head ``bce``: ``"bce"``, ``"focal"``, ``FocalOptions(gamma=1)``, ...
    prior_bias : bool
        Start training with the labels' biases at the logits of their frequencies instead of 0.
    label_weights : dict of str to float, or None
        How often a cell counts where the label applies, by label name; once where a label is not named.

    Examples
    --------
    >>> from mlclf.heads.verbalizer import VerbalizerOptions
    >>> VerbalizerOptions(words={"sports": ["football", "tennis"]}).template
    '{text} It is about {mask}.'
    """

    component = "verbalizer"
    template: str = "{text} It is about {mask}."
    words: dict[str, Annotated[list[Word], Field(min_length=1)]] | None = None
    loss: str | SerializeAsAny[LossOptions] = "bce"
    prior_bias: bool = True
    label_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None

    @field_validator("template")
    @classmethod
    def _with_two_places(cls, value: str) -> str:
        """Refuse a template that has no place for the text or for the hidden word."""
        return check_template(value)

    @field_validator("loss", mode="before")
    @classmethod
    def _known_loss(cls, value: Any) -> Any:
        """Refuse names that no loss has, and turn a dictionary into parameters."""
        options = as_loss_options(value)
        return value if isinstance(value, str) else options


class VerbalizerHead(LogitsHead):
    """One logit a label: how much more a masked language model expects the label's words than it always does.

    The text stands in a template with one hidden word. The score of a label is the mean of its words' logits there,
    and of a word of several tokens the mean of theirs. From it, the score of texts that say nothing is taken off; a
    scale and a bias for each label are learned. Labels do not compete: each has a probability of its own, where PET
    chooses one label by a softmax over all.

    Parameters
    ----------
    options : VerbalizerOptions

    Attributes
    ----------
    prompt : ClozePrompt
        The template in tokens; set by ``bind``.
    words : WordLogits
        Tokens of the labels' words; set by ``bind``.
    output : CalibratedLogits
        Baseline, scale and biases; set by ``bind``.

    References
    ----------
    Schick and Schuetze (2021), "Exploiting Cloze Questions for Few Shot Text Classification and Natural Language
    Inference" (PET), EACL, arXiv:2001.07676. Hu et al. (2022), arXiv:2108.02035, and Zhao et al. (2021),
    arXiv:2102.09690, for means over words and for the baseline.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mlclf.backbones.bert import BertBackbone, BertOptions
    >>> from mlclf.heads.verbalizer import VerbalizerHead, VerbalizerOptions
    >>> from mlclf.interfaces import LabelStatistics, LoadRequest
    >>> from mlclf.testing import tiny_masked_lm
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = BertBackbone(BertOptions(model=str(tiny_masked_lm("bert", folder))))
    ...     backbone.load(LoadRequest(vocabulary=True))
    >>> head = VerbalizerHead(VerbalizerOptions(words={"food": ["bread", "soup"]}))
    >>> head.bind(backbone, LabelStatistics(("food", "rain"), positives=np.array([0, 0]), known=np.array([0, 0])))
    >>> batch = backbone.collate(head.encode(backbone, ["the cat eats", ""]), np.arange(2))
    >>> head.probabilities(backbone, batch).shape
    torch.Size([2, 2])
    """

    Options = VerbalizerOptions
    capabilities = HeadCapabilities(
        families=frozenset({"encoder", "masked-lm"}), label_text=True, zero_shot=True, vocabulary=True
    )
    options: VerbalizerOptions
    prompt: ClozePrompt
    words: WordLogits
    output: CalibratedLogits

    def check(self, labels: LabelStatistics) -> None:
        """Refuse words and weights of labels that do not exist.

        Raises
        ------
        UnknownLabelError
        """
        make_loss(self.options.loss, labels, label_weights=self.options.label_weights)
        for name in self.options.words or {}:
            if name not in labels.names:
                raise UnknownLabelError(f"words has {name!r}, which is no label. {did_you_mean(name, labels.names)}")

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Turn template and words into tokens, and ask the model what it expects of texts that say nothing.

        Raises
        ------
        IncompatibleComponentsError
            If the tokenizer has no mask token.
        OptionsError
            If the template leaves no room for a text, the tokenizer does not know a word, or two labels have the same
            words.
        """
        options = self.options
        self.loss = make_loss(options.loss, labels, label_weights=options.label_weights)
        self.prompt = make_cloze(options.template, backbone.encoder, backbone.options.component)
        self.words = WordLogits(self._tokens(backbone, labels))
        self.output = CalibratedLogits(first_bias(options, labels))
        self._take_baseline(backbone)

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> VerbalizerHead:
        """Return a head for more labels; labels that no row told about so far start at their prior now."""
        grown = cast(VerbalizerHead, super().grow(backbone, before, after))
        restart_bias(grown.output.bias, self.options, before, after)
        return grown

    def text_encoder(self, backbone: Backbone) -> TextEncoder:
        """Return the encoder that puts the prompt around every text."""
        return self.prompt.encoder

    def features_to_logits(self, output: BackboneOutput) -> Tensor:
        """Return logits of each row, float32 ``(n_rows, n_labels)``."""
        logits: Tensor = self.output(self._evidence(output))
        return logits

    def _evidence(self, output: BackboneOutput) -> Tensor:
        """Return what the model says for each label's words in the hidden place, ``(n_rows, n_labels)``."""
        mask, place = output.mask.long(), self.prompt.place
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).amax(dim=1)
        position = last + 1 + place if place < 0 else last + 1 - mask.sum(dim=1) + place
        index = position[:, None, None].expand(-1, 1, output.tokens.shape[2])
        states = output.tokens.gather(1, index)[:, 0]
        with without_autocast(states.device.type):
            evidence: Tensor = self.words(states, cast(nn.Module, output.vocabulary))
        return evidence

    @torch.no_grad()
    def _take_baseline(self, backbone: Backbone) -> None:
        device = next(backbone.model.parameters()).device
        batch = backbone.collate(self.encode(backbone, CONTENT_FREE), np.arange(len(CONTENT_FREE)))
        backbone.eval()
        self.words.to(device)
        evidence = self._evidence(backbone(batch.to(device)))
        self.output.baseline.copy_(evidence.mean(dim=0))

    def _tokens(self, backbone: Backbone, labels: LabelStatistics) -> list[list[tuple[int, ...]]]:
        """Return the token ids of each label's words."""
        given = self.options.words or {}
        words = [given.get(name, [name]) for name in labels.names]
        flat = iter(words_in_place(backbone.encoder.tokenizer, self.prompt.context, [w for row in words for w in row]))
        found = [[next(flat) for _ in row] for row in words]
        owners: dict[tuple[tuple[int, ...], ...], str] = {}
        for name, tokens in zip(labels.names, found, strict=True):
            other = owners.setdefault(tuple(sorted(tokens)), name)
            if other != name:
                raise OptionsError(
                    f"Labels {other!r} and {name!r} have the same words for the tokenizer, so that the model could not "
                    "tell them apart. Give them different ones: VerbalizerOptions(words={label: [word, ...]})."
                )
        return found
