"""What ``prompt-tuning`` and ``p-tuning`` have in common: virtual tokens at the embeddings."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from mlclf.exceptions import IncompatibleComponentsError, UnsuitableComponentError
from mlclf.interfaces import Backbone, LoadRequest, Strategy, StrategyCapabilities
from mlclf.strategies.rates import RateOptions
from mlclf.strategies.soft_prompt import CHILD, SoftPrompt, attach, make_plain, prompt_of, remove


class PromptBaseOptions(RateOptions):
    """What the options of strategies with virtual tokens have in common.

    Parameters
    ----------
    n_tokens : int
        Virtual tokens; a text may be so many tokens shorter where the model has a limit.
    learning_rate, head_learning_rate : float or None
        Peak rates; None takes the strategy's.
    """

    n_tokens: int = Field(default=16, ge=1)


class PromptBase(Strategy):
    """Base of strategies with virtual tokens at the embeddings.

    A subclass says how they are made (:meth:`make`). They stand after the token that an encoder's tokenizer puts first
    (``[CLS]``), after the one that a causal model's puts first where it does (``<s>``), and else before the text.

    Parameters
    ----------
    options : PromptBaseOptions
    """

    capabilities = StrategyCapabilities(
        families=frozenset({"encoder", "causal-lm"}),
        merge="no",
        padding="right",
        changes="tokens",
        detachable=True,
        chains=True,
    )
    latency = "that of texts n_tokens longer"
    options: PromptBaseOptions

    @abstractmethod
    def make(self, table: Tensor) -> nn.Module:
        """Return a module that gives new virtual tokens, from the model's table of embeddings."""

    def load_request(self) -> LoadRequest:
        """Reserve the positions of the virtual tokens."""
        return LoadRequest(reserved_length=self.options.n_tokens)

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone that does not take embeddings, or has virtual tokens already."""
        model, name = backbone.model, self.options.component
        if hasattr(model, CHILD):
            raise IncompatibleComponentsError(
                f"Strategy {name!r}: this backbone has virtual tokens already. Use one strategy with more n_tokens."
            )
        takes = isinstance(model, PreTrainedModel) and "inputs_embeds" in inspect.signature(model.forward).parameters
        if not takes:
            raise UnsuitableComponentError(
                f"Strategy {name!r} puts virtual tokens among the embeddings, and the model of backbone "
                f"{backbone.options.component!r} ({type(model).__name__}) does not take inputs_embeds."
            )

    def adapt(self, backbone: Backbone) -> None:
        """Freeze the model and put the virtual tokens in."""
        self.freeze(backbone)
        model: Any = backbone.model
        tokens = self.make(model.get_input_embeddings().weight.detach().float())
        attach(model, SoftPrompt(tokens, self.options.n_tokens, _place(backbone)))

    def finish(self, backbone: Backbone) -> None:
        """Keep the embeddings of the virtual tokens, and drop the network that computes them, if there is one."""
        make_plain(backbone.model)

    @torch.no_grad()
    def state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return the embeddings of the virtual tokens."""
        return {f"{CHILD}.tokens.embeddings": prompt_of(backbone.model).tokens().detach()}

    def load_state(self, backbone: Backbone, state: dict[str, Tensor]) -> None:
        """Put saved virtual tokens into an adapted backbone, which goes on learning from them directly."""
        self.finish(backbone)
        super().load_state(backbone, state)

    def detach(self, backbone: Backbone) -> None:
        """Take the virtual tokens out: the model is again what was loaded, bit for bit."""
        remove(backbone.model)


def _place(backbone: Backbone) -> int:
    """Return how many tokens of a text stand before the virtual ones."""
    if backbone.family != "causal-lm":
        return 1
    first = int(backbone.encode(["a"]).ids[0])
    config: Any = backbone.model.config
    return int(first == config.bos_token_id)
