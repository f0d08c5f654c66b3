"""Head ``prompt-generation``: a causal language model reads a prompt and writes the labels that apply."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlclf.encoding import EncodedTexts
from mlclf.exceptions import BundleDamagedError
from mlclf.heads.generation.answers import AnswerWriter
from mlclf.heads.generation.beam import BeamScorer
from mlclf.heads.generation.collating import Rows, with_answers
from mlclf.heads.generation.decoding import Limits, greedy_sets, max_over_steps, mean_over_samples
from mlclf.heads.generation.document import Question, prompt_document
from mlclf.heads.generation.names import label_tokens
from mlclf.heads.generation.options import PromptGenerationOptions
from mlclf.heads.generation.reading import Reading
from mlclf.heads.generation.scoring import PackedScorer, Scorer
from mlclf.heads.generation.trie import LabelTrie
from mlclf.interfaces import Backbone, Batch, Head, HeadCapabilities, LabelStatistics
from mlclf.labels import Targets
from mlclf.options import Options as OptionsBase
from mlclf.prompts import ChatFormat, Prompt, PromptText, make_prompt
from mlclf.prompts.segments import check_descriptions
from mlclf.prompts.tokens import PromptTokens

logger = logging.getLogger(__name__)

# An answer that could be longer is given so much of what the model reads at once; the text needs the rest.
_ANSWER_SHARE = 0.25
# Random numbers a sampled answer; more steps than this use them again.
_STEPS = 64


class PromptGenerationHead(Head):
    """Writes labels, token by token, and can write nothing but sets of labels.

    A prompt stands around the text; the answer is put together from the tokens of the labels' names. What can be
    written is a trie of these, so that an answer is always a set of labels, each once, or empty. The head has no
    weights of its own: the strategy trains the backbone to answer.

    Training maximises the probability of the answer among what the trie allows, its loss divided by the answer's
    tokens, so that texts with many labels do not outweigh others. Output logits are computed at the answer's places and
    for tokens of the trie alone.

    Parameters
    ----------
    options : PromptGenerationOptions

    Attributes
    ----------
    prompt : Prompt
        Set by ``bind``.
    trie : LabelTrie
        Set by ``bind``.

    References
    ----------
    Yang et al. (2018), "SGM: Sequence Generation Model for Multi-label Classification", arXiv:1806.04822.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mlclf.backbones.llm import LlmBackbone, LlmOptions
    >>> from mlclf.interfaces import LoadRequest
    >>> from mlclf.prompts import PromptOptions
    >>> from mlclf.testing import tiny_decoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backbone = LlmBackbone(LlmOptions(model=str(tiny_decoder("llama", folder))))
    ...     backbone.load(LoadRequest(vocabulary=True))
    >>> counts = LabelStatistics(("cat", "dog"), positives=np.array([2, 3]), known=np.array([9, 9]))
    >>> head = PromptGenerationHead(PromptGenerationOptions(prompt=PromptOptions(template="{{ text }}:")))
    >>> head.bind(backbone, counts)
    >>> batch = head.collate(backbone, head.encode(backbone, ["the cat", ""]), np.arange(2), None)
    >>> with torch.no_grad():
    ...     head.eval().probabilities(backbone, batch).shape, head.decode(backbone, batch).dtype
    (torch.Size([2, 2]), torch.bool)
    """

    Options = PromptGenerationOptions
    capabilities = HeadCapabilities(
        families=frozenset({"causal-lm"}),
        logits=False,
        label_text=True,
        windows=False,
        export=False,
        zero_shot=True,
        vocabulary=True,
        memory=True,
        relative=True,
        learns=False,
    )
    options: PromptGenerationOptions
    prompt: Prompt
    trie: LabelTrie
    limits: Limits
    fingerprint: Tensor

    @classmethod
    def described(cls, options: OptionsBase, descriptions: dict[str, str]) -> OptionsBase:
        """Return the options with descriptions in the prompt."""
        given = cast(PromptGenerationOptions, options)
        return given.replace(prompt=given.prompt.replace(descriptions=descriptions)).validated()

    def check(self, labels: LabelStatistics) -> None:
        """Refuse descriptions of labels that do not exist.

        Raises
        ------
        OptionsError
        """
        check_descriptions(self.options.prompt, labels.names)

    def bind(self, backbone: Backbone, labels: LabelStatistics) -> None:
        """Make trie and prompt.

        Raises
        ------
        OptionsError
            If two labels have the same tokens, or the prompt leaves no room for a text.
        """
        prompt_tokens = PromptTokens(backbone.encoder.tokenizer)
        found = label_tokens(labels.names, prompt_tokens, backbone.special_tokens.get("eos_token"))
        self.trie = LabelTrie(found.paths, found.end)
        n_labels = min(self.options.max_labels or labels.n_labels, labels.n_labels)
        max_length = backbone.encoder.max_length
        self.limits = Limits(n_labels, _answer_room(found.paths, n_labels, max_length))
        about = PromptText(labels.names, max_length, self.limits.tokens)
        chat = ChatFormat(backbone.chat_template, backbone.special_tokens)
        self.prompt = make_prompt(self.options.prompt, about, prompt_tokens, chat)
        order = self._order(labels)
        self.rows = Rows(self.prompt, AnswerWriter(self.trie), order, max_length)
        self._question = Question(self.prompt, labels.names, found, order, self.limits)
        self.rows.check(labels.targets, self.limits.tokens)
        beam = self.options.beam
        self.scorer: Scorer = PackedScorer(self.trie) if beam is None else BeamScorer(self.trie, beam)
        self._found, self._true = 0, 0
        self.register_buffer("fingerprint", torch.tensor(list(self._digest()), dtype=torch.uint8))

    def _order(self, labels: LabelStatistics) -> NDArray[np.int64] | None:
        """Return the labels in the order in which answers name them; None draws another one for every answer."""
        if self.options.order == "random":
            return None
        given = np.arange(labels.n_labels)
        return given if self.options.order == "given" else np.argsort(-labels.positives, kind="stable")

    def grow(self, backbone: Backbone, before: LabelStatistics, after: LabelStatistics) -> PromptGenerationHead:
        """Return a head for more labels: prompt and trie are made anew; nothing was learned here that could be lost.

        What the model answers for a label depends on the others that it could write instead.
        """
        grown = type(self)(self.options)
        grown.check(after)
        grown.bind(backbone, after)
        return grown

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse tokens other than those that the model was trained on.

        Raises
        ------
        BundleDamagedError
            If the prompt or the labels' tokens differ, because tokenizer or chat template are not the same.
        """
        if bytes(state["fingerprint"].tolist()) != self._digest():
            raise BundleDamagedError(
                "The tokens of prompt and labels are not those that this model was trained on: the tokenizer's files "
                "or the chat template have changed since. Put the original files back, or save the model with "
                "save(folder, include_backbone=True) where it was trained."
            )

    def _digest(self) -> bytes:
        """Return a checksum of all tokens beside those of a text."""
        content = repr((self.prompt.head, self.prompt.tail, self.trie.paths, self.trie.end)).encode()
        return hashlib.sha256(content).digest()

    def encode(self, backbone: Backbone, texts: Sequence[str]) -> EncodedTexts:
        """Return the ids of the texts alone, cut so that prompt and answer fit around them."""
        return self.prompt.encode(texts)

    def collate(
        self, backbone: Backbone, encoded: EncodedTexts, rows: NDArray[np.int64], targets: Targets | None
    ) -> Batch:
        """Put prompts around texts, and behind them the answers where targets are given.

        Returns
        -------
        Batch
            ``extras`` holds text and tail for prediction, and for training where the answers stand.
        """
        return with_answers(self.rows, backbone, encoded, rows, targets, draw=self.training)

    def losses(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the mean negative log-probability of the answer's tokens of each sample, shape (n_samples,)."""
        states = backbone.token_states(batch)
        owner, place, token = (batch.extras[name] for name in ("answer_row", "answer_place", "answer_token"))
        vocabulary = backbone.vocabulary
        assert vocabulary is not None
        logits: Tensor = vocabulary(states[owner, place], self.trie.tokens).float()
        logits = logits.masked_fill(~batch.extras["answer_allowed"], -torch.inf)
        nats = torch.nn.functional.cross_entropy(logits, token, reduction="none")
        counts = torch.bincount(owner, minlength=batch.n_samples)
        return nats.new_zeros(batch.n_samples).index_add(0, owner, nats) / counts

    def probabilities(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the probability of each label by the estimator of the options, float32 ``(n_samples, n_labels)``."""
        if self.options.probabilities == "set":
            return self.decode(backbone, batch).float()
        reading = self._read(backbone, batch)
        if self.options.probabilities == "max":
            found = max_over_steps(reading, self.scorer, self.trie, self.limits)
        else:
            uniform = self._uniform(batch).to(reading.last.device)
            found = mean_over_samples(reading, self.scorer, self.trie, self.limits, uniform)
        self._count_recall(found, batch)
        return found

    def decode(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the set of labels that the model writes, bool ``(n_samples, n_labels)``."""
        return greedy_sets(self._read(backbone, batch), self.trie, self.limits)

    def _read(self, backbone: Backbone, batch: Batch) -> Reading:
        ids, mask = batch.extras["prompt_ids"], batch.extras["prompt_mask"]
        head = torch.tensor(self.prompt.head, dtype=torch.int64, device=ids.device)
        return Reading.start(backbone, head, ids, mask)

    def _uniform(self, batch: Batch) -> Tensor:
        """Draw random numbers for each text from its tokens, so that its answer does not depend on its neighbours."""
        ids, mask = batch.extras["prompt_ids"].cpu(), batch.extras["prompt_mask"].cpu()
        numbers = [
            np.random.default_rng([self.options.seed, zlib.crc32(row[real].numpy().tobytes())]).random(
                (self.options.samples, _STEPS)
            )
            for row, real in zip(ids, mask, strict=True)
        ]
        return torch.from_numpy(np.stack(numbers))

    def _count_recall(self, found: Tensor, batch: Batch) -> None:
        """Count the labels that apply, and those of them that the beam found."""
        if self.options.beam is not None and batch.targets is not None:
            applies = batch.targets > 0
            self._true += int(applies.sum())
            self._found += int((applies & (found > 0)).sum())

    def prompt_files(self) -> dict[str, Any]:
        """Return ``prompt.json``, from which a program can ask the merged model by itself."""
        return {"prompt.json": prompt_document(self._question)}

    def validation_figures(self) -> dict[str, float]:
        """Return the share of true labels that the beam found since the last call."""
        if not self._true:
            return {}
        recall = self._found / self._true
        self._found = self._true = 0
        return {"beam_recall": recall}


def _answer_room(paths: Sequence[tuple[int, ...]], n_labels: int, max_length: int) -> int:
    """Return how many tokens are kept free for an answer: for the longest names, but no more than a share."""
    longest = sorted(map(len, paths), reverse=True)
    share = max(int(_ANSWER_SHARE * max_length), longest[0] + 1)
    return min(1 + sum(longest[:n_labels]), share)
