"""History: what happened in a training run, figure by figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mlclf.exceptions import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

    def plot(self) -> Figure:
        """Draw losses and validation figures over the epochs; a line marks the evaluation whose weights were kept.

        Returns
        -------
        matplotlib Figure
            With two axes, or one where there was no validation. In a notebook it shows itself; elsewhere
            ``figure.savefig("history.png")``. It belongs to no window and needs no closing.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        InvalidInputError
            If the history has no evaluation.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError(
                "History.plot needs matplotlib: pip install 'mlclf[plot]'. to_dict() gives the figures without."
            ) from error
        if not self.evaluations:
            raise InvalidInputError("There is nothing to plot: the history has no evaluation, as nothing was trained.")
        scores = [name for name in self.evaluations[0].metrics if name != "loss"]
        figure = Figure(figsize=(10 if scores else 5, 4), layout="constrained")
        axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
        self._draw(axes[0], {"training loss": self._series("train_loss"), "validation loss": self._metric("loss")})
        if scores:
            self._draw(axes[1], {name.replace("_", " "): self._metric(name) for name in scores})
        return figure

    def _series(self, name: str) -> list[float]:
        return [getattr(evaluation, name) for evaluation in self.evaluations]

    def _metric(self, name: str) -> list[float]:
        """Return a validation figure of every evaluation, NaN where it was not measured; nothing if it never was."""
        values = [evaluation.metrics.get(name, float("nan")) for evaluation in self.evaluations]
        return values if any(value == value for value in values) else []

    def _draw(self, axes: Any, series: dict[str, list[float]]) -> None:
        """Draw some series over the epochs, and a line at the best evaluation."""
        epochs = self._series("epoch")
        for name, values in series.items():
            if values:
                axes.plot(epochs, values, marker="o", label=name)
        if self.best is not None:
            best = epochs[self.best]
            axes.axvline(best, color="0.5", linestyle="--", label=f"kept: epoch {best:g}")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """Make a history from :meth:`to_dict`."""
        return cls(**{**values, "evaluations": [Evaluation(**item) for item in values["evaluations"]]})
