"""Every error that mlclf raises on purpose, in one tree.

::

    MlclfError
    ├── InvalidInputError          (ValueError)    texts or labels of a form that cannot be used
    │   ├── UnknownLabelError                      a label outside the label space
    │   └── DataFileError                          a data file that cannot be read as texts and labels
    ├── OptionsError               (ValueError)    an option with a value outside its rule
    ├── IncompatibleComponentsError (ValueError)   backbone, strategy and head do not fit together
    │   └── UnsuitableComponentError               one of them has to be replaced: no option of it would help
    ├── NotMergeableError          (ValueError)    a strategy that cannot give back plain weights
    ├── NotFittedError             (ValueError, AttributeError)  a fitted model is needed
    ├── MissingExtraError          (ImportError)   an optional dependency is absent
    ├── BackboneLoadError          (OSError)       model files are absent, unreachable or unusable
    ├── PluginError
    │   ├── UnknownComponentError  (ValueError)    no component of that name
    │   ├── MissingPluginError     (ImportError)   the plugin is not installed
    │   ├── PluginDisabledError                    switched off by an environment variable
    │   ├── PluginConflictError                    two packages claim one plugin id
    │   ├── PluginIncompatibleError                made for another version of mlclf
    │   ├── PluginLoadError        (ImportError)   the plugin failed while loading
    │   └── ConformanceError       (AssertionError) a component breaks a rule of the interfaces
    ├── BundleError                (ValueError)    a saved folder that cannot be used
    │   ├── BundleDamagedError                     missing, truncated or altered files
    │   ├── BundleVersionError                     written by an incompatible version
    │   └── SelfTestError                          an exported model that answers otherwise than where it was made
    ├── ProviderError              (RuntimeError)  a device that was asked for cannot be used
    ├── ExportError                (RuntimeError)  a model that cannot be written as ONNX
    │   └── ParityError                            the exported model disagrees with the one it was made from
    └── TrainingError              (RuntimeError)
        ├── NonFiniteLossError                     the loss became NaN or infinite
        └── TrainingMemoryError    (MemoryError)   even one row does not fit into memory

    TrainingInterrupted (KeyboardInterrupt)        Ctrl-C or SIGTERM, after a checkpoint was written

``TrainingInterrupted`` is no ``MlclfError``: a grid search that swallows ``Exception`` must still stop
when the user interrupts it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal


class MlclfError(Exception):
    """Base class of every error raised by mlclf."""


class InvalidInputError(MlclfError, ValueError):
    """Texts or labels have a form that cannot be used."""


class UnknownLabelError(InvalidInputError):
    """A label is not part of the label space."""


class DataFileError(InvalidInputError):
    """A data file cannot be read as texts and labels."""


class OptionsError(MlclfError, ValueError):
    """An option has a value outside its rule."""


class IncompatibleComponentsError(MlclfError, ValueError):
    """Backbone, strategy and head do not fit together."""


class UnsuitableComponentError(IncompatibleComponentsError):
    """A strategy or head does not go with the other components, whatever its options.

    ``fit`` adds to the message which others can take its place. So a strategy that raises it in ``check`` says why it
    cannot be used, and names no other one.

    Parameters
    ----------
    message : str
        Component, rule and what was found.
    kind : {"strategy", "head"}
        What has to be replaced.
    """

    def __init__(self, message: str, kind: Literal["strategy", "head"] = "strategy") -> None:
        super().__init__(message)
        self.kind: Literal["strategy", "head"] = kind


class NotMergeableError(MlclfError, ValueError):
    """The strategy cannot be merged into plain backbone weights."""


class NotFittedError(MlclfError, ValueError, AttributeError):
    """The operation needs a fitted model."""


class MissingExtraError(MlclfError, ImportError):
    """An optional dependency is not installed."""


class BackboneLoadError(MlclfError, OSError):
    """Model files are absent, unreachable or unusable."""


class PluginError(MlclfError):
    """Base class of plugin errors."""


class UnknownComponentError(PluginError, ValueError):
    """No component has that name."""


class MissingPluginError(PluginError, ImportError):
    """The plugin that provides a component is not installed."""


class PluginDisabledError(PluginError):
    """The plugin is switched off by an environment variable."""


class PluginConflictError(PluginError):
    """Two installed packages claim the same plugin id."""


class PluginIncompatibleError(PluginError):
    """The plugin was made for another version of mlclf."""


class PluginLoadError(PluginError, ImportError):
    """The plugin failed while it was loaded."""


class ConformanceError(PluginError, AssertionError):
    """A plugin or component breaks a rule that :mod:`mlclf.testing` checks."""


class BundleError(MlclfError, ValueError):
    """A saved folder cannot be used."""


class BundleDamagedError(BundleError):
    """Files of a saved folder are missing, truncated or altered."""


class BundleVersionError(BundleError):
    """A saved folder was written by an incompatible version."""


class SelfTestError(BundleError):
    """An exported model gives other probabilities for its golden texts than where it was exported."""


class ProviderError(MlclfError, RuntimeError):
    """A device that was asked for cannot be used."""


class ExportError(MlclfError, RuntimeError):
    """A model cannot be written as ONNX."""


class ParityError(ExportError):
    """The exported model disagrees with the model that it was made from."""


class TrainingError(MlclfError, RuntimeError):
    """Training could not go on."""


class NonFiniteLossError(TrainingError):
    """The training loss became NaN or infinite."""


class TrainingMemoryError(TrainingError, MemoryError):
    """Even a batch of one row does not fit into memory."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM.

    Parameters
    ----------
    message : str
        What happened and how to go on.
    checkpoint : Path or None
        Folder to pass as ``TrainingOptions(resume_from=...)``; None where no ``checkpoint_dir`` was set.
    signal_number : int
        The signal received (2 for Ctrl-C, 15 for SIGTERM).
    """

    def __init__(self, message: str, checkpoint: Path | None, signal_number: int) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint
        self.signal_number = signal_number
