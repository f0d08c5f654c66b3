"""Partners: the backbones, strategies and heads that a component is checked with.

Who goes with whom is asked of the checks that ``fit`` makes, so that a component meets only partners that it would be
used with, and none is left out because somebody forgot a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from mlclf.assembly import resolve_parts
from mlclf.exceptions import BackboneLoadError, IncompatibleComponentsError, OptionsError
from mlclf.heads.bce import BceOptions
from mlclf.interfaces.backbone import Family
from mlclf.losses import LossOptions
from mlclf.options import Options
from mlclf.parts import Parts
from mlclf.plugins import Kind, resolve
from mlclf.plugins.builtins import BUILTINS
from mlclf.plugins.spec import PART_KINDS
from mlclf.testing.conformance.session import ComponentOptions, Session
from mlclf.testing.tiny_backbone import TinyOptions

# Tried first, because they go with nearly everything.
_STRATEGIES = ("full", "head-only", "lora")
_HEADS = ("bce",)

# What an attempt to build a network may raise where components do not fit together.
REFUSALS = (IncompatibleComponentsError, BackboneLoadError, OptionsError)


@dataclass(frozen=True, eq=False)
class Case:
    """A component with partners.

    Parameters
    ----------
    backbone, strategy, head : Options or callable
        The component under test may be a function of the labels' names.
    family : str
        Of the backbone.
    """

    backbone: ComponentOptions
    strategy: ComponentOptions
    head: ComponentOptions
    family: Family

    def parts(self, names: tuple[str, ...]) -> Parts:
        """Return the three components for some labels.

        Raises
        ------
        IncompatibleComponentsError
            If they do not go together.
        """
        return resolve_parts(*(given(choice, names) for choice in (self.backbone, self.strategy, self.head)))

    @property
    def title(self) -> str:
        """What the case is called in messages, such as ``"bert + full + bce"``."""
        choices = (self.backbone, self.strategy, self.head)
        return " + ".join(choice.component if isinstance(choice, Options) else "..." for choice in choices)


def given(choice: ComponentOptions, names: tuple[str, ...]) -> Options:
    """Return options for some labels."""
    return choice if isinstance(choice, Options) else choice(names)


def candidates(session: Session, kind: Kind, options: ComponentOptions, names: tuple[str, ...]) -> Iterator[Case]:
    """Yield a component with every partner it may have, the likeliest first, backbone by backbone.

    Parameters
    ----------
    session : Session
    kind : str
        What the component is. A loss, calibrator or augmentation is chosen in options and meets one set of partners.
    options : Options or callable
        Its options.
    names : tuple of str
        Label names to make them for.
    """
    if kind not in PART_KINDS:
        yield _around(kind, options)
        return
    backbones = [options] if kind == "backbone" else session.backbones()
    strategies = [options] if kind == "strategy" else _defaults("strategy", _STRATEGIES)
    heads = [options] if kind == "head" else _defaults("head", _HEADS)
    for backbone in backbones:
        family = resolve("backbone", given(backbone, names))[1].family
        for strategy in strategies:
            for head in heads:
                yield Case(backbone, strategy, head, family)


def _around(kind: Kind, options: ComponentOptions) -> Case:
    """Return the fastest components that a loss, calibrator or augmentation can be chosen with."""
    head: ComponentOptions = BceOptions()
    if kind == "loss":
        head = partial(_with_loss, options)
    return Case(TinyOptions(), _defaults("strategy", _STRATEGIES)[0], head, "other")


def _with_loss(loss: ComponentOptions, names: tuple[str, ...]) -> BceOptions:
    return BceOptions(loss=cast(LossOptions, given(loss, names)))


def _defaults(kind: Kind, first: Iterable[str]) -> list[Options]:
    """Return default options of all built-in components of a kind, some of them first."""
    names = dict.fromkeys([*first, *(spec.name for spec in BUILTINS[kind])])
    return [resolve(kind, name)[2] for name in names]
