"""The output layer of a language model over its vocabulary, apart from the model whose states it reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

# How far logits of some tokens may be from those of the whole layer.
_TOLERANCE = 1e-4


class VocabularyHead(nn.Module):
    """What a language model computes after its last layer: one logit a token of the vocabulary.

    Every architecture has a way of its own from states to logits (a matrix, a small network before it, a scale, a cap).
    None of them is written again here: the language model itself is run, with a stand-in for its layers that hands over
    given states. Weights that the layer shares with the model's embeddings stay shared.

    Parameters
    ----------
    language_model : PreTrainedModel
        A model with a language-modelling head; its layers are taken out of it.

    Attributes
    ----------
    size : int
        Tokens of the vocabulary.
    """

    def __init__(self, language_model: PreTrainedModel) -> None:
        super().__init__()
        output: Any = language_model.get_output_embeddings()
        self._stand_in = _GivenStates()
        setattr(language_model, language_model.base_model_prefix, self._stand_in)
        self.shell = language_model.requires_grad_(False)
        self._output = next(name for name, module in language_model.named_modules() if module is output)
        self.size = int(output.weight.shape[0])
        self._is_linear = self._is_one_matrix(output)

    def forward(self, states: Tensor, token_ids: Tensor | None = None) -> Tensor:
        """Return logits.

        Parameters
        ----------
        states : Tensor, shape (n, hidden)
            States after the model's last layer, of any type.
        token_ids : Tensor of int64, shape (n_tokens,), or None
            The tokens whose logits are wanted; None is all of them. Where the layer is one matrix, only their rows of
            it are multiplied.

        Returns
        -------
        Tensor, shape (n, n_tokens)
            Of the type of the states, whatever the type of the weights.
        """
        output: Any = self.shell.get_submodule(self._output)
        given, states = states.dtype, states.to(output.weight.dtype)
        if token_ids is None:
            return self._all_logits(states).to(given)
        if not self._is_linear:
            return self._all_logits(states)[:, token_ids].to(given)
        bias = None if output.bias is None else output.bias[token_ids]
        return functional.linear(states, output.weight[token_ids], bias).to(given)

    def whole(self, layers: PreTrainedModel) -> PreTrainedModel:
        """Return the language model with its layers back in their place; this head is of no use afterwards.

        Parameters
        ----------
        layers : PreTrainedModel
            The layers that were taken out, or merged ones of the same architecture.
        """
        setattr(self.shell, self.shell.base_model_prefix, layers)
        return self.shell

    def _all_logits(self, states: Tensor) -> Tensor:
        self._stand_in.states = states[None]
        try:
            ids = torch.zeros(1, states.shape[0], dtype=torch.int64, device=states.device)
            logits: Tensor = self.shell(input_ids=ids).logits[0]
        finally:
            self._stand_in.states = None
        return logits

    @torch.no_grad()
    def _is_one_matrix(self, output: nn.Module) -> bool:
        """Say whether the layer is a product with one matrix and nothing else, by trying it."""
        if not isinstance(output, nn.Linear) or output.weight.dtype not in (torch.float32, torch.bfloat16):
            return False
        if output.in_features != self.shell.config.hidden_size:
            return False
        generator = torch.Generator().manual_seed(0)
        states = 30 * torch.randn(3, output.in_features, generator=generator)
        states = states.to(output.weight.device, output.weight.dtype)
        direct = functional.linear(states, output.weight, output.bias)
        return torch.allclose(self._all_logits(states), direct, rtol=_TOLERANCE, atol=_TOLERANCE)


class _GivenStates(nn.Module):
    """Stands in the place of a model's layers and answers with states computed elsewhere."""

    states: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.states)
