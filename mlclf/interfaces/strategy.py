"""Strategy: which weights of the backbone learn, and how fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from mlclf.exceptions import BundleDamagedError, IncompatibleComponentsError, NotMergeableError
from mlclf.interfaces.backbone import Backbone, Family, LoadRequest
from mlclf.interfaces.batch import Batch
from mlclf.options import Options as OptionsBase

# From input and plain output of a module, for some rows of a batch, to the output of the adapted module.
RowUpdate: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StrategyCapabilities:
    """What a strategy needs and can do; compared with backbone and head before anything is loaded.

    Parameters
    ----------
    families : frozenset of str
        Backbone families it can adapt.
    merge : {"exact", "lossy", "no"}
        Whether ``merge`` gives back plain weights.
    padding : {"any", "right"}
        Padding side it needs.
    needs_layers : bool
        Whether the backbone must have a stack of layers.
    gradient_checkpointing : bool
        Whether activations may be recomputed.
    quantised_base : bool
        Whether the base may be quantised.
    export : bool
        Whether a model that it adapted can be exported to ONNX, merged or with what it injected.
    changes : {"nothing", "weights", "activations", "tokens"}
        What it works on: nothing in the backbone, its weights (LoRA), what flows between its layers (adapters), or the
        tokens that it reads beside those of the text (prefixes, prompts). A chain is in this order, and among those on
        activations what merges comes first.
    detachable : bool
        Whether ``detach`` gives back the loaded backbone, because the loaded weights are left as they are.
    chains : bool
        Whether it can be combined with other strategies on one backbone.
    shares : bool
        Whether several tasks can be served from one copy of the loaded weights: they are left as they are, and what
        is injected acts on each row by itself. ``row_updates`` says how.
    """

    families: frozenset[Family] = frozenset({"encoder", "causal-lm", "masked-lm", "other"})
    merge: Literal["exact", "lossy", "no"] = "exact"
    padding: Literal["any", "right"] = "any"
    needs_layers: bool = False
    gradient_checkpointing: bool = True
    quantised_base: bool = False
    export: bool = True
    changes: Literal["nothing", "weights", "activations", "tokens"] = "weights"
    detachable: bool = False
    chains: bool = False
    shares: bool = False


@dataclass(frozen=True)
class LearningRates:
    """Peak learning rates of a strategy, tuned for it.

    Parameters
    ----------
    backbone : float
        Of what the strategy trains in the backbone.
    head : float
        Of head and pooling.
    """

    backbone: float
    head: float


class Strategy(ABC):
    """Base of all strategies.

    The life of a strategy: ``load_request`` -> (backbone loads) -> ``check`` -> ``adapt`` -> ``initialise`` (in a
    fit only) -> ``parameter_groups`` -> training -> ``finish`` -> ``state`` -> ``merge`` or ``detach``. A strategy
    never contains a training loop, and it keeps nothing of a backbone in itself: it is also given copies of the one
    that it adapted.

    Parameters
    ----------
    options : Options
        An object of the class named in ``Options``.

    Attributes
    ----------
    Options : type
        Class of its options, whose ``component`` is the registered name; must be set.
    capabilities : StrategyCapabilities
        What it declares; an object may declare something else than its class where that depends on options.
    learning_rates : LearningRates
        Its own peak rates.
    typical_use : str
        One line for ``mlclf strategies``: when to take it.
    latency : str
        What it costs at prediction, for the same table: ``"none"``, ``"none once merged"``, ``"a few per cent"``.

    Examples
    --------
    A whole strategy, which trains biases only:

    >>> from mlclf.interfaces import LearningRates, Strategy
    >>> from mlclf.options import Options
    >>> class BiasOptions(Options):
    ...     component = "local:bias"
    >>> class Bias(Strategy):
    ...     Options = BiasOptions
    ...     learning_rates = LearningRates(backbone=2e-3, head=5e-3)
    ...     def adapt(self, backbone):
    ...         self.freeze(backbone)
    ...         for name, parameter in backbone.model.named_parameters():
    ...             parameter.requires_grad = name.endswith("bias")
    """

    Options: ClassVar[type[OptionsBase]]
    capabilities: StrategyCapabilities = StrategyCapabilities()
    learning_rates: LearningRates
    typical_use: ClassVar[str] = ""
    latency: ClassVar[str] = "none"

    def __init__(self, options: OptionsBase) -> None:
        self.options = options

    @abstractmethod
    def adapt(self, backbone: Backbone) -> None:
        """Mark or inject in ``backbone.model`` what learns; everything else must be frozen afterwards."""

    def check(self, backbone: Backbone) -> None:
        """Refuse a loaded backbone that cannot be adapted; nothing is changed.

        Raises
        ------
        UnsuitableComponentError
            If no option of this strategy would help; the message gets the names of those that can take its place.
        IncompatibleComponentsError
            If other options would, which the message names.
        """

    def load_request(self) -> LoadRequest:
        """Say how the backbone's weights are to be loaded."""
        return LoadRequest()

    def initialise(self, backbone: Backbone, batches: Iterable[Batch]) -> None:
        """Set the start of what learns from training texts; called once in a fit, never for a saved model.

        Parameters
        ----------
        backbone : Backbone
            Adapted, on its device.
        batches : iterable of Batch
            Batches of training texts in random order, on the backbone's device; made as they are asked for.
        """

    def parameter_groups(self, backbone: Backbone, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return optimizer groups (``params``, ``lr``, ``weight_decay``) of what learns in ``backbone.model``.

        The default is two groups, with and without weight decay: vectors (biases, norms) have none.
        """
        named = [(n, p) for n, p in backbone.model.named_parameters() if p.requires_grad]
        return [
            group
            for group in (
                {"params": [p for _, p in named if p.ndim >= 2], "lr": learning_rate, "weight_decay": weight_decay},
                {"params": [p for _, p in named if p.ndim < 2], "lr": learning_rate, "weight_decay": 0.0},
            )
            if group["params"]
        ]

    def constant_layers(self, backbone: Backbone) -> int:
        """Return how many lowest layers stay constant in training, so that their outputs may be cached.

        0 where the embeddings learn; ``backbone.n_layers`` where the whole model is constant. Layers below this
        number are kept in evaluation mode, without dropout.
        """
        return 0

    def set_train_mode(self, backbone: Backbone) -> None:
        """Put ``backbone.model`` into the mode of a training step: dropout where something learns.

        Called before each epoch. The default trains everything above the constant layers.
        """
        learns = any(p.requires_grad for p in backbone.model.parameters())
        constant = self.constant_layers(backbone)
        backbone.model.train(learns and constant == 0)
        for layer in backbone.layers()[constant:]:
            layer.train(learns)

    def penalty(self, backbone: Backbone) -> Tensor | None:
        """Return a term to add to the loss of a step, or None."""
        return None

    def finish(self, backbone: Backbone) -> None:
        """Reduce what was injected to what predictions need; the output stays the same.

        Called once training is over, and on a freshly adapted backbone before saved tensors are put into it. Prefix
        tuning, for example, drops the network that its keys and values were computed by.
        """

    def state(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return the tensors of ``backbone.model`` that this strategy trained, by name, as :meth:`finish` leaves them.

        Whether :meth:`finish` has been called makes no difference.
        """
        return {n: p.detach() for n, p in backbone.model.named_parameters() if p.requires_grad}

    def load_state(self, backbone: Backbone, state: dict[str, Tensor]) -> None:
        """Put saved tensors into an adapted backbone.

        Raises
        ------
        BundleDamagedError
            If a tensor is missing, unknown or of another shape.
        """
        own = self.state(backbone)
        missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        if missing or unknown:
            raise BundleDamagedError(
                f"The saved tensors of strategy {self.options.component!r} do not fit: "
                f"{len(missing)} missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}."
            )
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise BundleDamagedError(
                    f"Saved tensor {name!r} has shape {tuple(state[name].shape)}, needed is {tuple(tensor.shape)}."
                )
            tensor.copy_(state[name])

    def merge(self, backbone: Backbone) -> None:
        """Turn ``backbone.model`` into plain weights with its original names.

        Raises
        ------
        NotMergeableError
            If this strategy changes the forward pass in a way that no plain weights express.
        """
        if self.capabilities.merge == "no":
            raise NotMergeableError(f"Strategy {self.options.component!r} cannot be merged into plain weights.")

    def merge_partially(self, backbone: Backbone) -> None:
        """Merge as far as possible: what no plain weights express stays in ``backbone.model`` as modules.

        For an export, which takes either. The default merges all or nothing, as ``capabilities.merge`` says.
        """
        if self.capabilities.merge != "no":
            self.merge(backbone)

    def detach(self, backbone: Backbone) -> None:
        """Take everything out that was injected: ``backbone.model`` is again what was loaded, bit for bit.

        Raises
        ------
        IncompatibleComponentsError
            If the strategy trains the loaded weights themselves.
        """
        if not self.capabilities.detachable:
            raise IncompatibleComponentsError(
                f"Strategy {self.options.component!r} trains the loaded weights themselves, so that nothing can be "
                "taken out again. Load the backbone anew."
            )

    def row_updates(self, backbone: Backbone) -> dict[str, RowUpdate]:
        """Return what it does to the outputs of single modules, so that rows of several tasks can share a batch.

        Parameters
        ----------
        backbone : Backbone
            Adapted by this strategy.

        Returns
        -------
        dict of str to callable
            For names of modules as they were loaded: from the module's input and plain output, for some rows, to the
            output as the strategy changes it. Empty where nothing in the backbone is changed.

        Raises
        ------
        IncompatibleComponentsError
            If tasks cannot share a backbone under this strategy.
        """
        if self.capabilities.shares and self.capabilities.changes == "nothing":
            return {}
        raise IncompatibleComponentsError(
            f"Strategy {self.options.component!r} cannot share its backbone with other tasks: it changes the loaded "
            "weights, or more than the outputs of single modules. Use strategy='head-only', or 'lora' where the "
            "backbone has linear layers."
        )

    @staticmethod
    def freeze(backbone: Backbone) -> None:
        """Stop all of ``backbone.model`` from learning; for use inside ``adapt``."""
        nn.Module.requires_grad_(backbone.model, False)
