"""The interfaces of mlclf: what plugins subclass. That of losses is :class:`mlclf.losses.MultiLabelLoss`."""

from mlclf.augmentation.base import Augmentation, Corpus
from mlclf.interfaces.backbone import Backbone, BackboneOutput, BackboneSource, LoadRequest
from mlclf.interfaces.batch import Batch
from mlclf.interfaces.calibrator import Calibrator, label_cells
from mlclf.interfaces.head import Head, HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.interfaces.memory import Memory
from mlclf.interfaces.strategy import LearningRates, RowUpdate, Strategy, StrategyCapabilities

__all__ = [
    "Augmentation",
    "Backbone",
    "BackboneOutput",
    "BackboneSource",
    "Batch",
    "Calibrator",
    "Corpus",
    "Head",
    "HeadCapabilities",
    "LabelStatistics",
    "LearningRates",
    "LoadRequest",
    "LogitsHead",
    "Memory",
    "RowUpdate",
    "Strategy",
    "StrategyCapabilities",
    "label_cells",
]
