"""Where the learned keys and values of attention layers are kept: as they are, or as a network computes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlclf.strategies.prefix_attention import CHILD, AttentionCall


class Prefix(nn.Module):
    """Keys and values of virtual tokens before those of one attention layer.

    Parameters
    ----------
    key : Tensor, shape (n_heads, n_tokens, key_size)
    value : Tensor, shape (n_heads, n_tokens, value_size)

    Examples
    --------
    >>> import torch
    >>> key, value = Prefix(torch.zeros(2, 4, 8), torch.zeros(2, 4, 8))()
    >>> key.shape
    torch.Size([2, 4, 8])
    """

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key = nn.Parameter(key.detach().clone())
        self.value = nn.Parameter(value.detach().clone())

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return keys and values."""
        return self.key, self.value


class PrefixTrunk(nn.Module):
    """The part of the network that all layers' prefixes come from: one vector a virtual token, and a hidden layer.

    Parameters
    ----------
    n_tokens : int
        Virtual tokens.
    size : int
        Size of a token's vector.
    hidden : int
        Size of the hidden layer.
    """

    def __init__(self, n_tokens: int, size: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(n_tokens, size))
        self.hidden = nn.Linear(size, hidden)

    def forward(self) -> Tensor:
        """Return ``(n_tokens, hidden)``."""
        hidden: Tensor = self.hidden(self.tokens)
        return hidden.tanh()


class ComputedPrefix(nn.Module):
    """A prefix as a network computes it in training, with a trunk that it shares with those of other layers.

    Parameters
    ----------
    trunk : PrefixTrunk
    call : AttentionCall
        The attention layer's shapes.
    """

    def __init__(self, trunk: PrefixTrunk, call: AttentionCall) -> None:
        super().__init__()
        self.trunk = trunk
        self.n_heads = call.n_heads
        self.to_key = nn.Linear(trunk.hidden.out_features, call.n_heads * call.key_size)
        self.to_value = nn.Linear(trunk.hidden.out_features, call.n_heads * call.value_size)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, as :class:`Prefix` does."""
        hidden = self.trunk()
        return self._by_head(self.to_key(hidden)), self._by_head(self.to_value(hidden))

    def _by_head(self, flat: Tensor) -> Tensor:
        return flat.reshape(flat.shape[0], self.n_heads, -1).transpose(0, 1)


AnyPrefix = Prefix | ComputedPrefix


def prefixed_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the attention layers with a prefix, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, CHILD)}


def prefixes(model: nn.Module) -> dict[str, AnyPrefix]:
    """Return the prefixes of a model by name."""
    return {f"{name}.{CHILD}": getattr(layer, CHILD) for name, layer in prefixed_layers(model).items()}


def attach(layer: nn.Module, prefix: AnyPrefix) -> None:
    """Give an attention layer a prefix, on the device where the layer is."""
    layer.add_module(CHILD, prefix.to(next(layer.parameters()).device))


@torch.no_grad()
def make_plain(model: nn.Module) -> None:
    """Replace what computes prefixes by the keys and values that it computes."""
    for layer in prefixed_layers(model).values():
        prefix: AnyPrefix = getattr(layer, CHILD)
        if isinstance(prefix, ComputedPrefix):
            layer.add_module(CHILD, Prefix(*prefix()))


def remove(model: nn.Module) -> None:
    """Take all prefixes out."""
    for layer in prefixed_layers(model).values():
        delattr(layer, CHILD)
