"""Matching: whether three components go together, and what could take the place of one that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mlclf.exceptions import IncompatibleComponentsError, UnsuitableComponentError
from mlclf.interfaces import Backbone, HeadCapabilities, Strategy, StrategyCapabilities
from mlclf.options import TrainingOptions
from mlclf.parts import Parts
from mlclf.plugins import resolve
from mlclf.ways_out import CANDIDATES, UNDEMANDING, way_out


def check_parts(parts: Parts) -> None:
    """Check what the components declare about themselves.

    Raises
    ------
    IncompatibleComponentsError
        Naming the two components, the rule, and what to use instead.
    """
    try:
        _check_declared(parts)
    except UnsuitableComponentError as error:
        raise _with_way_out(error, parts) from None


def _check_declared(parts: Parts) -> None:
    """Check the declarations, without a word on what to use instead of an unsuitable component."""
    family = parts.backbone_class.family
    side = getattr(parts.backbone, "padding_side", parts.backbone_class.padding_side)
    names = parts.names
    head = parts.head_capabilities
    declared: tuple[tuple[Literal["strategy", "head"], StrategyCapabilities | HeadCapabilities], ...] = (
        ("strategy", parts.strategy_capabilities),
        ("head", head),
    )
    for kind, capabilities in declared:
        if family not in capabilities.families:
            raise UnsuitableComponentError(
                f"{kind.capitalize()} {names[kind]!r} works with backbones of the families "
                f"{', '.join(sorted(capabilities.families))}; backbone {names['backbone']!r} is of family {family!r}.",
                kind,
            )
        if capabilities.padding not in ("any", side):
            raise UnsuitableComponentError(
                f"{kind.capitalize()} {names[kind]!r} needs padding on the {capabilities.padding}; "
                f"backbone {names['backbone']!r} pads on the {side}.",
                kind,
            )
    _check_reading(parts)
    _check_weight_type(parts)
    if getattr(parts.backbone, "window_stride", None) is not None and not head.windows:
        raise IncompatibleComponentsError(
            f"Head {names['head']!r} reads a text as a whole; window_stride of backbone {names['backbone']!r} splits "
            "it. Use window_stride=None."
        )


def _check_reading(parts: Parts) -> None:
    """Refuse what would read a head's own tokens in another way than the head says."""
    names, head = parts.names, parts.head_capabilities
    if not head.masks and not head.memory:
        return
    backbone = parts.backbone_class(parts.backbone)
    if head.masks and not backbone.takes_masks:
        raise UnsuitableComponentError(
            f"Head {names['head']!r} says which tokens see each other; backbone {names['backbone']!r} takes no such "
            "masks, as 'bert' and 'llm' do.",
            "head",
        )
    if head.memory and not backbone.remembers:
        raise UnsuitableComponentError(
            f"Head {names['head']!r} reads on from what was read before; backbone {names['backbone']!r} remembers "
            "nothing, as 'llm' with bidirectional=False does.",
            "head",
        )
    if parts.strategy_capabilities.changes == "tokens":
        raise UnsuitableComponentError(
            f"Head {names['head']!r} says which tokens see each other, and strategy {names['strategy']!r} adds tokens "
            "that it does not know of. Head 'bce' goes with such strategies."
        )


def check_training(parts: Parts, training: TrainingOptions) -> None:
    """Check that the components allow what the training options ask for.

    Raises
    ------
    IncompatibleComponentsError
        If activations cannot be recomputed with this strategy, or nothing would learn.
    """
    check_learns(parts)
    if training.gradient_checkpointing and not parts.strategy_capabilities.gradient_checkpointing:
        raise IncompatibleComponentsError(
            f"Strategy {parts.names['strategy']!r} cannot be trained with recomputed activations. "
            "Use TrainingOptions(gradient_checkpointing=False), and a smaller batch_size where memory is short."
        )


def check_learns(parts: Parts) -> None:
    """Refuse to train where neither strategy nor head has anything that learns.

    Raises
    ------
    IncompatibleComponentsError
    """
    try:
        _check_learns(parts)
    except UnsuitableComponentError as error:
        raise _with_way_out(error, parts) from None


def _check_learns(parts: Parts) -> None:
    if parts.strategy_capabilities.changes == "nothing" and not parts.head_capabilities.learns:
        raise UnsuitableComponentError(
            f"Head {parts.names['head']!r} has no weights of its own and strategy {parts.names['strategy']!r} trains "
            "none of the backbone, so that nothing can be learned."
        )


def _check_weight_type(parts: Parts) -> None:
    """Refuse weights of 16 bits where they are trained: most steps are smaller than what 16 bits can tell apart."""
    dtype = getattr(parts.backbone, "dtype", "float32")
    can = parts.strategy_capabilities
    if dtype != "float32" and not can.detachable and can.changes != "nothing":
        raise UnsuitableComponentError(
            f"Strategy {parts.names['strategy']!r} trains the loaded weights themselves, which must be float32 for it; "
            f"backbone {parts.names['backbone']!r} has dtype={dtype!r}. With dtype='float32' it can."
        )


def _with_way_out(
    error: UnsuitableComponentError, parts: Parts, backbone: Backbone | None = None
) -> UnsuitableComponentError:
    """Return an error that also names what can take the place of the refused component.

    Parameters
    ----------
    error : UnsuitableComponentError
    parts : Parts
    backbone : Backbone or None
        Loaded and not adapted, to be asked too; None where it is not loaded yet.
    """
    kind = error.kind
    candidates = CANDIDATES[kind]
    if kind == "strategy" and backbone is None and parts.backbone_class.family == "other":
        candidates = UNDEMANDING

    def attempt(name: str) -> None:
        _, found, options = resolve(kind, name)
        other = replace(parts, **{kind: options, f"{kind}_class": found})
        _check_declared(other)
        _check_learns(other)
        if backbone is not None:
            _check_adapts(other, other.strategy_class(other.strategy), backbone)

    return UnsuitableComponentError(f"{error} {way_out(kind, candidates, attempt)}", kind)


def check_loaded(parts: Parts, strategy: Strategy, backbone: Backbone) -> None:
    """Check what only a loaded backbone tells: what the strategy asks, and whether it has the layers that it needs.

    Raises
    ------
    IncompatibleComponentsError
        Naming strategies that this backbone can take, where no option of the strategy would help.
    """
    try:
        _check_adapts(parts, strategy, backbone)
    except UnsuitableComponentError as error:
        raise _with_way_out(error, parts, backbone) from None


def _check_adapts(parts: Parts, strategy: Strategy, backbone: Backbone) -> None:
    strategy.check(backbone)
    if strategy.capabilities.needs_layers and backbone.n_layers == 0:
        raise UnsuitableComponentError(
            f"Strategy {parts.names['strategy']!r} needs a stack of layers, and backbone {parts.names['backbone']!r} "
            "has none: its layers share weights (ALBERT) or cannot be told apart."
        )
