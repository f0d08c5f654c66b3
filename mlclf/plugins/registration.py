"""Registering components of a running program, under the reserved plugin id ``local``.

They are not visible in spawned workers, and a model saved with one can be loaded only after the same registration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlclf.plugins.registry import get_manager

if TYPE_CHECKING:
    from mlclf.interfaces import Augmentation, Backbone, Calibrator, Head, Strategy
    from mlclf.losses import MultiLabelLoss


def register_backbone(component: type[Backbone], name: str) -> None:
    """Register a backbone class in this process.

    Parameters
    ----------
    component : type
        Subclass of :class:`mlclf.interfaces.Backbone`.
    name : str
        ``"local:..."``, the same as ``component`` of its options class.

    Raises
    ------
    PluginError
        If the name has another form or the class is no backbone.

    Examples
    --------
    >>> from mlclf.backbones.bert import BertBackbone, BertOptions
    >>> from mlclf.plugins import resolve
    >>> class MineOptions(BertOptions):
    ...     component = "local:mine"
    >>> class Mine(BertBackbone):
    ...     Options = MineOptions
    >>> register_backbone(Mine, "local:mine")
    >>> resolve("backbone", MineOptions(max_length=64))[1].__name__
    'Mine'
    """
    get_manager().local.register("backbone", component, name)


def register_strategy(component: type[Strategy], name: str) -> None:
    """Register a strategy class in this process.

    Parameters
    ----------
    component : type
        Subclass of :class:`mlclf.interfaces.Strategy`.
    name : str
        ``"local:..."``, the same as ``component`` of its options class.

    Raises
    ------
    PluginError
        If the name has another form or the class is no strategy.

    Examples
    --------
    >>> from mlclf.interfaces import LearningRates, Strategy
    >>> from mlclf.options import Options
    >>> from mlclf.plugins import resolve
    >>> class FrozenOptions(Options):
    ...     component = "local:frozen"
    >>> class Frozen(Strategy):
    ...     Options = FrozenOptions
    ...     learning_rates = LearningRates(backbone=1e-3, head=1e-3)
    ...     def adapt(self, backbone):
    ...         self.freeze(backbone)
    >>> register_strategy(Frozen, "local:frozen")
    >>> resolve("strategy", "local:frozen")[1].__name__
    'Frozen'
    """
    get_manager().local.register("strategy", component, name)


def register_head(component: type[Head], name: str) -> None:
    """Register a head class in this process.

    Parameters
    ----------
    component : type
        Subclass of :class:`mlclf.interfaces.Head`.
    name : str
        ``"local:..."``, the same as ``component`` of its options class.

    Raises
    ------
    PluginError
        If the name has another form or the class is no head.

    Examples
    --------
    >>> from mlclf.heads.bce import BceHead, BceOptions
    >>> from mlclf.plugins import resolve
    >>> class WideOptions(BceOptions):
    ...     component = "local:wide"
    >>> class Wide(BceHead):
    ...     Options = WideOptions
    >>> register_head(Wide, "local:wide")
    >>> resolve("head", "local:wide")[1].__name__
    'Wide'
    """
    get_manager().local.register("head", component, name)


def register_loss(component: type[MultiLabelLoss[Any]], name: str) -> None:
    """Register a loss class in this process.

    Parameters
    ----------
    component : type
        Subclass of :class:`mlclf.losses.MultiLabelLoss`.
    name : str
        ``"local:..."``, the same as ``component`` of its options class.

    Raises
    ------
    PluginError
        If the name has another form or the class is no loss.

    Examples
    --------
    >>> from mlclf.heads.bce import BceOptions
    >>> from mlclf.losses import CellLoss, LossOptions
    >>> class BrierOptions(LossOptions):
    ...     component = "local:brier"
    >>> class Brier(CellLoss):
    ...     Options = BrierOptions
    ...     def cells(self, logits, targets):
    ...         return (logits.sigmoid() - targets) ** 2
    >>> register_loss(Brier, "local:brier")
    >>> BceOptions(loss="local:brier").loss
    'local:brier'
    """
    get_manager().local.register("loss", component, name)


def register_calibrator(component: type[Calibrator], name: str) -> None:
    """Register a calibrator class in this process.

    Parameters
    ----------
    component : type
        Subclass of :class:`mlclf.interfaces.Calibrator`, whose docstring shows a whole one.
    name : str
        ``"local:..."``, the same as ``component`` of its options class.

    Raises
    ------
    PluginError
        If the name has another form or the class is no calibrator.

    Examples
    --------
    >>> from mlclf.calibrators import PlattCalibrator, PlattOptions
    >>> from mlclf.plugins import resolve
    >>> class MineOptions(PlattOptions):
    ...     component = "local:mine"
    >>> class Mine(PlattCalibrator):
    ...     Options = MineOptions
    >>> register_calibrator(Mine, "local:mine")
    >>> resolve("calibrator", "local:mine")[1].__name__
    'Mine'
    """
    get_manager().local.register("calibrator", component, name)


def register_augmentation(component: type[Augmentation], name: str) -> None:
    """Register an augmentation class in this process.

    Parameters
    ----------
    component : type
        Subclass of :class:`mlclf.interfaces.Augmentation`.
    name : str
        ``"local:..."``, the same as ``component`` of its options class.

    Raises
    ------
    PluginError
        If the name has another form or the class is no augmentation.

    Examples
    --------
    >>> from mlclf import TrainingOptions
    >>> from mlclf.interfaces import Augmentation
    >>> from mlclf.options import NamedOptions
    >>> class LowerOptions(NamedOptions):
    ...     component = "local:lower"
    >>> class Lower(Augmentation):
    ...     Options = LowerOptions
    ...     def change_texts(self, texts, targets, generator):
    ...         return [text.lower() if generator.random() < 0.5 else text for text in texts], targets
    >>> register_augmentation(Lower, "local:lower")
    >>> TrainingOptions(augmentation="local:lower").augmentation
    'local:lower'
    """
    get_manager().local.register("augmentation", component, name)
