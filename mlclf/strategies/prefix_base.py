"""What ``prefix`` and ``p-tuning-v2`` have in common: virtual tokens before the tokens of every attention layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor
from transformers import PreTrainedModel

from mlclf.exceptions import UnsuitableComponentError
from mlclf.interfaces import Backbone, Strategy, StrategyCapabilities
from mlclf.strategies.lora_targets import Layers, check_layers, chosen_layers
from mlclf.strategies.modes import train_only
from mlclf.strategies.prefix_attention import NAMES, AttentionCall, prefixed_attention, recorded
from mlclf.strategies.prefix_bank import AnyPrefix, attach, make_plain, prefixes, remove
from mlclf.strategies.rates import RateOptions


class PrefixBaseOptions(RateOptions):
    """What the options of strategies with learned keys and values have in common.

    Parameters
    ----------
    n_tokens : int
        Virtual tokens of each attention layer.
    layers : "all", int or tuple of int
        All layers, so many from the top, or those with these numbers, 0 being the lowest.
    learning_rate, head_learning_rate : float or None
        Peak rates; None takes the strategy's.
    """

    n_tokens: int = Field(default=16, ge=1)
    layers: Layers = "all"

    @field_validator("layers", mode="before")
    @classmethod
    def _possible_layers(cls, value: Any) -> Any:
        return check_layers(value)


class PrefixBase(Strategy):
    """Base of strategies with learned keys and values.

    A subclass says how they are made (:meth:`make`).

    Parameters
    ----------
    options : PrefixBaseOptions
    """

    capabilities = StrategyCapabilities(
        families=frozenset({"encoder", "causal-lm", "masked-lm"}),
        merge="no",
        changes="tokens",
        detachable=True,
        chains=True,
    )
    latency = "a few per cent"
    options: PrefixBaseOptions

    @abstractmethod
    def make(self, backbone: Backbone, calls: Sequence[AttentionCall]) -> list[AnyPrefix]:
        """Return new prefixes for some attention layers, in their order."""

    def check(self, backbone: Backbone) -> None:
        """Refuse a backbone whose attention cannot take a prefix."""
        self._sites(backbone)

    def adapt(self, backbone: Backbone) -> None:
        """Freeze the model and give its attention layers prefixes."""
        calls = self._sites(backbone)
        self.freeze(backbone)
        for call, prefix in zip(calls, self.make(backbone, calls), strict=True):
            attach(call.module, prefix)
        config: Any = backbone.model.config
        config._attn_implementation = NAMES[config._attn_implementation]

    def constant_layers(self, backbone: Backbone) -> int:
        """Return the number of layers below the lowest one with a prefix."""
        return min(self._chosen(backbone), default=0)

    def set_train_mode(self, backbone: Backbone) -> None:
        """Turn the backbone's dropout on above the constant layers."""
        constant = self.constant_layers(backbone)
        train_only(backbone.model, backbone.layers()[constant:] if constant else [backbone.model])

    def finish(self, backbone: Backbone) -> None:
        """Keep keys and values, and drop the network that computes them, if there is one."""
        make_plain(backbone.model)

    @torch.no_grad()
    def state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return keys and values by name."""
        return {
            f"{name}.{part}": tensor.detach()
            for name, prefix in prefixes(backbone.model).items()
            for part, tensor in zip(("key", "value"), prefix(), strict=True)
        }

    def load_state(self, backbone: Backbone, state: dict[str, Tensor]) -> None:
        """Put saved keys and values into an adapted backbone, which goes on learning from them directly."""
        self.finish(backbone)
        super().load_state(backbone, state)

    def detach(self, backbone: Backbone) -> None:
        """Take the prefixes out: the model is again what was loaded, bit for bit."""
        remove(backbone.model)
        config: Any = backbone.model.config
        originals = {name: inner for inner, name in NAMES.items()}
        config._attn_implementation = originals[config._attn_implementation]

    def _chosen(self, backbone: Backbone) -> tuple[int, ...]:
        return chosen_layers(backbone.n_layers, self.options.layers, owner=type(self.options).__name__)

    def _sites(self, backbone: Backbone) -> list[AttentionCall]:
        """Return the attention layers that get a prefix, each once, by a trial run over two short texts."""
        calls = _attention_calls(backbone, self.options.component)
        layers = backbone.layers() or [backbone.model]
        chosen = self._chosen(backbone) or (0,)
        inside = [[call for call in calls if call.module in set(layer.modules())] for layer in layers]
        if not all(inside):
            raise _unusable(backbone, self.options.component, "does not ask transformers' AttentionInterface for it")
        return [call for number in chosen for call in inside[number]]


@torch.no_grad()
def _attention_calls(backbone: Backbone, component: str) -> list[AttentionCall]:
    """Return what each attention layer computes with, in their order."""
    model = backbone.model
    if not isinstance(model, PreTrainedModel):
        raise _unusable(backbone, component, "is not a transformers model")
    if model.config._attn_implementation in NAMES.values():
        raise _unusable(backbone, component, "has prefixes already")
    if model.config._attn_implementation not in NAMES:
        known = ", ".join(NAMES)
        reason = f"is {model.config._attn_implementation!r}, and prefixes are put before those named {known}"
        raise _unusable(backbone, component, reason)
    batch = backbone.example_batch().to(next(model.parameters()).device)
    with prefixed_attention(model):
        calls = recorded(lambda: backbone.token_states(batch))
    if not all(call.mask_is_known for call in calls):
        raise _unusable(backbone, component, "hides tokens by other means than a mask (a position bias, a causal flag)")
    return list({id(call.module): call for call in calls}.values())


def _unusable(backbone: Backbone, component: str, reason: str) -> UnsuitableComponentError:
    architecture = getattr(getattr(backbone.model, "config", None), "model_type", type(backbone.model).__name__)
    return UnsuitableComponentError(
        f"Strategy {component!r} puts learned keys and values into attention, and the attention of backbone "
        f"{backbone.options.component!r} ({architecture}) {reason}. BERT, RoBERTa, DistilBERT, "
        "ModernBERT, Llama, Qwen and others can take prefixes."
    )
