"""ChainStrategy: several strategies on one backbone, as one strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import tee
from typing import Any, ClassVar

import torch
from torch import Tensor

from mlclf.chaining.options import ChainOptions, StrategyChoice, chain_options
from mlclf.chaining.ownership import learning, names_of_each, only_learning
from mlclf.chaining.rules import check_chain, combined
from mlclf.exceptions import BundleDamagedError, IncompatibleComponentsError, OptionsError
from mlclf.interfaces import Backbone, Batch, LearningRates, LoadRequest, Strategy
from mlclf.options import Options
from mlclf.plugins import resolve


def resolve_strategy(choice: StrategyChoice) -> tuple[type[Strategy], Options]:
    """Return the class and the checked options of a strategy or of a list of them.

    A list of one is that strategy.

    Raises
    ------
    UnknownComponentError, MissingPluginError, PluginLoadError
        If a strategy cannot be found.
    OptionsError
        If an option breaks its rule, or the list is empty.
    IncompatibleComponentsError
        If the strategies of a list do not go together.

    Examples
    --------
    >>> resolve_strategy(["lora"])[0].__name__
    'LoraStrategy'
    """
    if isinstance(choice, str) or (isinstance(choice, Options) and not isinstance(choice, ChainOptions)):
        _, strategy_class, options = resolve("strategy", choice)
        return strategy_class, options
    chain = chain_options(choice.parts if isinstance(choice, ChainOptions) else choice).validated()
    if len(chain.parts) == 1:
        return resolve_strategy(chain.parts[0])
    check_chain(ChainStrategy(chain).parts)
    return ChainStrategy, chain


class ChainStrategy(Strategy):
    """Several strategies that adapt one backbone in turn and are trained together.

    Each part keeps its own parameters, learning rates and saved tensors, and meets the model as if it alone had
    adapted it. Dropout is on where any part wants it.

    Parameters
    ----------
    options : ChainOptions

    Attributes
    ----------
    parts : tuple of Strategy
        In the order in which they adapt the backbone.
    owned : tuple of frozenset of str
        Names in ``backbone.model`` of what each part trains; empty until ``adapt``.

    References
    ----------
    Mao et al. (2022), "UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning",
    arXiv:2110.07577, train several such methods at once (there with gates, which are left out here).
    """

    Options: ClassVar[type[Options]] = ChainOptions
    options: ChainOptions

    def __init__(self, options: ChainOptions) -> None:
        super().__init__(options)
        self.parts: tuple[Strategy, ...] = tuple(_strategy(part) for part in options.parts)
        self.capabilities = combined([part.capabilities for part in self.parts])
        self.learning_rates = LearningRates(backbone=_rate(self.parts[0]), head=_head_rate(self.parts))
        self.owned: tuple[frozenset[str], ...] = ()

    def load_request(self) -> LoadRequest:
        """Ask for the one quantisation and type that a part wants, and room for the virtual tokens of all."""
        requests = [part.load_request() for part in self.parts]
        plain = LoadRequest()
        quantising = [request for request in requests if request.quantization is not None]
        typed = [request.dtype for request in requests if request.dtype != plain.dtype]
        if len(set(typed)) > 1:
            raise IncompatibleComponentsError(
                f"The strategies {self.options.names} want weights of different types ({', '.join(map(str, typed))}). "
                "Leave one of them out."
            )
        return LoadRequest(
            dtype=typed[0] if typed else plain.dtype,
            quantization=quantising[0].quantization if quantising else None,
            weights=all(request.weights for request in requests),
            reserved_length=sum(request.reserved_length for request in requests),
        )

    def check(self, backbone: Backbone) -> None:
        """Refuse what any part refuses."""
        for part in self.parts:
            part.check(backbone)

    def adapt(self, backbone: Backbone) -> None:
        """Let the parts adapt the backbone in turn; each freezes what is not its own."""
        owned = []
        for number, part in enumerate(self.parts):
            if number:
                part.check(backbone)  # what came before it may have taken the place that it needs
            self.freeze(backbone)
            part.adapt(backbone)
            owned.append(learning(backbone.model))
        self.owned = names_of_each(backbone.model, owned, self.options.names)
        for parameter in (parameter for parameters in owned for parameter in parameters):
            parameter.requires_grad = True

    def initialise(self, backbone: Backbone, batches: Iterable[Batch]) -> None:
        """Let each part find its start from the same training texts."""
        copies = iter(tee(batches, len(self.parts)))
        self._change(backbone, lambda part: part.initialise(backbone, next(copies)))

    def parameter_groups(self, backbone: Backbone, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups of all parts.

        ``learning_rate`` is that of the first part; the rates of the others keep their ratio to it.
        """
        factor = learning_rate / _rate(self.parts[0])
        groups = []
        for part, alone in self._alone(backbone):
            with alone:
                groups += part.parameter_groups(backbone, factor * _rate(part), weight_decay)
        return groups

    def constant_layers(self, backbone: Backbone) -> int:
        """Return how many lowest layers no part changes."""
        return min(part.constant_layers(backbone) for part in self.parts)

    def set_train_mode(self, backbone: Backbone) -> None:
        """Put into training mode what any part wants in it."""
        training = set()
        for part, alone in self._alone(backbone):
            with alone:
                part.set_train_mode(backbone)
            training |= {module for module in backbone.model.modules() if module.training}
        for module in backbone.model.modules():
            module.training = module in training

    def penalty(self, backbone: Backbone) -> Tensor | None:
        """Return the sum of the parts' penalties."""
        penalties = []
        for part, alone in self._alone(backbone):
            with alone:
                penalties.append(part.penalty(backbone))
        wanted = [penalty for penalty in penalties if penalty is not None]
        return torch.stack(wanted).sum() if wanted else None

    def finish(self, backbone: Backbone) -> None:
        """Let each part reduce itself; what it keeps may have other names than what was trained."""
        self._change(backbone, lambda part: part.finish(backbone))

    def state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return what all parts save."""
        return {name: tensor for tensors in self._states(backbone) for name, tensor in tensors.items()}

    def load_state(self, backbone: Backbone, state: dict[str, Tensor]) -> None:
        """Give each part the saved tensors of its own names."""
        own = self._states(backbone)
        unknown = sorted(set(state).difference(*own))
        if unknown:
            raise BundleDamagedError(
                f"The saved tensors of the strategies {self.options.names} do not fit: {len(unknown)} unknown "
                f"{unknown[:3]}."
            )
        saved = ({name: state[name] for name in names if name in state} for names in own)
        self._change(backbone, lambda part: part.load_state(backbone, next(saved)))

    def merge(self, backbone: Backbone) -> None:
        """Merge all parts, the first one first: what was put over it scales or shifts what it merges into.

        Raises
        ------
        NotMergeableError
            If one of them cannot be merged; nothing has been changed then.
        """
        super().merge(backbone)
        self._merge(backbone)

    def merge_partially(self, backbone: Backbone) -> None:
        """Merge the parts that can be merged, and put the others back over the merged weights.

        A part that neither merges nor can be taken out leaves everything as it is: what it injected may hold on to
        layers that merging would replace.
        """
        staying = [part for part in self.parts if part.capabilities.merge == "no"]
        if len(staying) == len(self.parts) or not all(part.capabilities.detachable for part in staying):
            return
        kept: list[tuple[Strategy, dict[str, Tensor]]] = []
        for part, alone in reversed(list(self._alone(backbone))):
            if part in staying:
                with alone:
                    kept.append((part, {name: t.clone() for name, t in part.state(backbone).items()}))
                    part.detach(backbone)
        self._merge(backbone)
        with torch.random.fork_rng(devices=[]):  # the start is drawn anew, and at once written over
            for part, state in reversed(kept):
                part.adapt(backbone)
                part.finish(backbone)
                part.load_state(backbone, state)

    def detach(self, backbone: Backbone) -> None:
        """Take out what the parts injected, the last one first."""
        super().detach(backbone)
        for part, alone in reversed(list(self._alone(backbone))):
            with alone:
                part.detach(backbone)

    def _merge(self, backbone: Backbone) -> None:
        """Merge the parts that can be merged."""
        for part, alone in self._alone(backbone):
            if part.capabilities.merge != "no":
                with alone:
                    part.merge(backbone)

    def _alone(self, backbone: Backbone) -> Iterator[tuple[Strategy, AbstractContextManager[None]]]:
        """Yield each part with a block in which nothing learns but what is its own."""
        for part, names in zip(self.parts, self.owned, strict=True):
            yield part, only_learning(backbone.model, names)

    def _change(self, backbone: Backbone, change: Callable[[Strategy], None]) -> None:
        """Do something with each part in turn, and note what is its own afterwards."""
        owned = []
        for part, alone in self._alone(backbone):
            with alone:
                change(part)
                owned.append(learning(backbone.model))
        self.owned = names_of_each(backbone.model, owned, self.options.names)

    def _states(self, backbone: Backbone) -> list[dict[str, Tensor]]:
        """Return what each part saves."""
        states = []
        for part, alone in self._alone(backbone):
            with alone:
                states.append(part.state(backbone))
        return states


def _strategy(options: Options) -> Strategy:
    _, strategy_class, checked = resolve("strategy", options)
    return strategy_class(checked)


def _rate(part: Strategy) -> float:
    """Return the peak rate of a part: that of its options, else its own."""
    return float(getattr(part.options, "learning_rate", None) or part.learning_rates.backbone)


def _head_rate(parts: Iterable[Strategy]) -> float:
    """Return the peak rate of the head: that of the options of any part, else the first part's own.

    Raises
    ------
    OptionsError
        If two parts ask for different ones.
    """
    parts = list(parts)
    given = {rate for part in parts if (rate := getattr(part.options, "head_learning_rate", None))}
    if len(given) > 1:
        raise OptionsError(
            f"The strategies of a chain ask for different rates of the head: head_learning_rate is {sorted(given)}. "
            "Give it once, or in TrainingOptions(head_learning_rate=...)."
        )
    return float(given.pop()) if given else parts[0].learning_rates.head
