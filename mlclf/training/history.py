"""History: what happened in a training run, figure by figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """One evaluation during training.

    Parameters
    ----------
    epoch : float
        Passes over the data so far.
    step : int
        Optimizer steps so far.
    train_loss : float
        Mean loss of the training rows since the previous evaluation.
    seconds : float
        Time since training began.
    metrics : dict of str to float
        Validation figures; empty where there is no validation.
    """

    epoch: float
    step: int
    train_loss: float
    seconds: float
    metrics: dict[str, float]


@dataclass
class History:
    """The evaluations of a run and which one was best.

    Parameters
    ----------
    evaluations : list of Evaluation
        In order of time.
    best : int or None
        Number of the evaluation whose weights were kept; None where there was no validation.
    stopped_early : bool
        Whether patience ran out before the last epoch.
    precision : str
        Arithmetic that was used.
    n_trainable, n_parameters : int
        Parameters that learned, and all parameters.
    cached_layers : int
        Lowest layers whose outputs were computed once.
    """

    evaluations: list[Evaluation] = field(default_factory=list)
    best: int | None = None
    stopped_early: bool = False
    precision: str = "fp32"
    n_trainable: int = 0
    n_parameters: int = 0
    cached_layers: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """Make a history from :meth:`to_dict`."""
        return cls(**{**values, "evaluations": [Evaluation(**item) for item in values["evaluations"]]})
