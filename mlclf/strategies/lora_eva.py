"""EVA: updates that start in the directions in which the inputs of their layers vary most."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlclf.exceptions import IncompatibleComponentsError
from mlclf.interfaces import Backbone, Batch
from mlclf.strategies.lora_layers import adapted

logger = logging.getLogger(__name__)

# Directions count as found once they turn by less than this from one batch to the next (the default of the paper's
# authors); what has not settled after so many batches is taken as it is.
_STEADY, _MOST_BATCHES = 0.99, 100


class _Directions:
    """The principal directions of one input, refined batch by batch."""

    def __init__(self, rank: int, n_features: int) -> None:
        from peft.utils.incremental_pca import IncrementalPCA

        # The approximate decomposition is faster and needs twice as many values in each direction as it finds.
        approximate = 2 * rank <= n_features
        self.needed = 2 * rank if approximate else rank
        self.pca = IncrementalPCA(n_components=rank, lowrank=approximate, lowrank_seed=0 if approximate else None)
        self.waiting: list[Tensor] = []
        self.steady = False

    @property
    def components(self) -> Tensor | None:
        """Directions of length 1, shape (rank, in_features), None before there were enough tokens."""
        return getattr(self.pca, "components_", None)

    def add(self, rows: Tensor) -> None:
        """Take the inputs of a batch, shape (n_tokens, in_features)."""
        self.waiting.append(rows.float())
        if self.steady or sum(map(len, self.waiting)) < self.needed:
            return
        before = self.components
        self.pca.partial_fit(torch.cat(self.waiting))
        self.waiting.clear()
        if before is not None:
            self.steady = bool((torch.cosine_similarity(self.pca.components_, before) >= _STEADY).all())


class _Inputs:
    """Hooks that show the inputs of adapted layers to their directions; layers with one input share them."""

    def __init__(self, layers: dict[str, Any], rank: int) -> None:
        self.found = {name: _Directions(rank, layer.in_features) for name, layer in layers.items()}
        self.mask = torch.zeros(0, dtype=torch.bool)
        self._last: tuple[Tensor, str] | None = None
        self._handles = [layer.register_forward_pre_hook(partial(self._see, name)) for name, layer in layers.items()]

    @property
    def steady(self) -> bool:
        """Whether all directions have settled."""
        return all(directions.steady for directions in self.found.values())

    def close(self) -> None:
        """Remove the hooks."""
        self._last = None
        for handle in self._handles:
            handle.remove()

    def _see(self, name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        states = inputs[0]
        if self._last is not None and self._last[0] is states:
            self.found[name] = self.found[self._last[1]]
            return
        self._last = states, name
        real = states[self.mask] if states.shape[:-1] == self.mask.shape else states.flatten(0, -2)
        self.found[name].add(real)


@torch.no_grad()
def start_from_inputs(backbone: Backbone, batches: Iterable[Batch], rank: int) -> None:
    """Set the first matrix of every update to the directions of largest variance of its layer's inputs.

    The second matrix stays at zero, so that the model begins unchanged.

    Parameters
    ----------
    backbone : Backbone
        Adapted, on its device.
    batches : iterable of Batch
        Texts; only as many are read as are needed.
    rank : int
        Rank of the updates, the same for all layers.

    Raises
    ------
    IncompatibleComponentsError
        If all texts together have too few tokens.

    References
    ----------
    Paischer et al. (2024), "One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
    arXiv:2410.07170, without its redistribution of ranks.
    """
    layers = adapted(backbone.model)
    inputs, number = _Inputs(layers, rank), 0
    backbone.model.eval()
    try:
        for number, batch in enumerate(batches, start=1):
            inputs.mask = batch.attention_mask.bool()
            backbone.token_states(batch)
            if inputs.steady or number == _MOST_BATCHES:
                break
    finally:
        inputs.close()
    unsteady = sum(not directions.steady for directions in inputs.found.values())
    logger.info("EVA: %d batches read; directions of %d of %d layers still turned.", number, unsteady, len(layers))
    for name, layer in layers.items():
        _start(layer, inputs.found[name].components, rank)


def _start(layer: Any, components: Tensor | None, rank: int) -> None:
    if components is None:
        raise IncompatibleComponentsError(
            f"init='eva' with r={rank} needs at least {2 * rank} tokens of training text, and there are fewer. Use "
            "init='default', or a smaller rank."
        )
    for down in layer.lora_A.values():
        down.weight.copy_(components)
