"""Virtual tokens in front of a text: put in at the embeddings, and cut out of the output again.

What reads the output (pooling, heads, windows) sees the real tokens alone, at the places where the mask has them. peft
returns the virtual tokens too, so that a pooling of the first token reads one of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Name of the child of the model that holds the virtual tokens.
CHILD = "soft_prompt"


class PlainPrompt(nn.Module):
    """Embeddings of virtual tokens.

    Parameters
    ----------
    embeddings : Tensor, shape (n_tokens, size)

    Examples
    --------
    >>> import torch
    >>> PlainPrompt(torch.zeros(4, 8))().shape
    torch.Size([4, 8])
    """

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(embeddings.detach().clone())

    def forward(self) -> Tensor:
        """Return the embeddings."""
        return self.embeddings


class SoftPrompt(nn.Module):
    """Puts virtual tokens into what a transformers model is called with, and takes them out of what it returns.

    Its two methods are registered as hooks of the model, whose child it is. Rows must be padded on the right, so that
    the virtual tokens stand at one place in all of them.

    Parameters
    ----------
    tokens : nn.Module
        Called without arguments, gives the embeddings, shape ``(n_tokens, size)``.
    n_tokens : int
        How many they are.
    place : int
        How many tokens of a text come before them.
    """

    def __init__(self, tokens: nn.Module, n_tokens: int, place: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.n_tokens = n_tokens
        self.place = place

    def insert(self, model: Any, arguments: tuple[()], named: dict[str, Tensor]) -> tuple[tuple[()], dict[str, Tensor]]:
        """Replace token ids by embeddings with the virtual ones among them, and lengthen mask and positions."""
        text = model.get_input_embeddings()(named["input_ids"])
        prompt = self.tokens().to(text.dtype).unsqueeze(0).expand(text.shape[0], -1, -1)
        changed = {
            "inputs_embeds": self._between(text, prompt),
            "attention_mask": self._between(named["attention_mask"], self._visible(named["attention_mask"])),
        }
        if "position_ids" in named:
            changed["position_ids"] = self._lengthened(named["position_ids"])
        rest = {name: value for name, value in named.items() if name not in ("input_ids", *changed)}
        return arguments, {**rest, **changed}

    def cut(self, model: Any, arguments: tuple[()], named: dict[str, Tensor], output: Any) -> Any:
        """Return the output with the states of the text's own tokens."""
        states, after = output["last_hidden_state"], self.place + self.n_tokens
        output["last_hidden_state"] = torch.cat([states[:, : self.place], states[:, after:]], dim=1)
        return output

    def _between(self, text: Tensor, prompt: Tensor) -> Tensor:
        return torch.cat([text[:, : self.place], prompt, text[:, self.place :]], dim=1)

    def _visible(self, mask: Tensor) -> Tensor:
        return mask.new_ones(mask.shape[0], self.n_tokens)

    def _lengthened(self, positions: Tensor) -> Tensor:
        """Count on from the tokens before the prompt, and move those after it."""
        own = torch.arange(self.place, self.place + self.n_tokens, device=positions.device)
        before, after = positions[:, : self.place], positions[:, self.place :] + self.n_tokens
        return torch.cat([before, own.unsqueeze(0).expand(positions.shape[0], -1), after], dim=1)


def attach(model: Any, prompt: SoftPrompt) -> None:
    """Make a prompt a part of a model, on the device where the model is."""
    model.add_module(CHILD, prompt.to(model.get_input_embeddings().weight.device))
    model.register_forward_pre_hook(prompt.insert, with_kwargs=True)
    model.register_forward_hook(prompt.cut, with_kwargs=True)


def prompt_of(model: nn.Module) -> SoftPrompt:
    """Return the prompt that is a part of a model."""
    prompt = model.get_submodule(CHILD)
    assert isinstance(prompt, SoftPrompt)
    return prompt


@torch.no_grad()
def make_plain(model: nn.Module) -> None:
    """Replace what computes the virtual tokens by the embeddings that it computes."""
    prompt = prompt_of(model)
    if not isinstance(prompt.tokens, PlainPrompt):
        prompt.tokens = PlainPrompt(prompt.tokens())


def remove(model: nn.Module) -> None:
    """Take a prompt out, and its hooks."""
    prompt = prompt_of(model)
    for hooks, with_kwargs in (
        (model._forward_pre_hooks, model._forward_pre_hooks_with_kwargs),
        (model._forward_hooks, model._forward_hooks_with_kwargs),
    ):
        for number in [number for number, hook in hooks.items() if getattr(hook, "__self__", None) is prompt]:
            del hooks[number], with_kwargs[number]
    delattr(model, CHILD)
