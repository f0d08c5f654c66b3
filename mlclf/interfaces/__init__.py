"""The three interfaces of mlclf: what plugins subclass."""

from mlclf.interfaces.backbone import Backbone, BackboneOutput, BackboneSource, LoadRequest
from mlclf.interfaces.batch import Batch
from mlclf.interfaces.head import Head, HeadCapabilities, LabelStatistics, LogitsHead
from mlclf.interfaces.memory import Memory
from mlclf.interfaces.strategy import LearningRates, RowUpdate, Strategy, StrategyCapabilities

__all__ = [
    "Backbone",
    "BackboneOutput",
    "BackboneSource",
    "Batch",
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
]
