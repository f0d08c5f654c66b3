"""Report: all figures of a model on labelled rows, at 0.5 and at its own thresholds."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlclf.decision_metrics import Average, DecisionFigures, LabelFigures, Policy
from mlclf.exceptions import MissingExtraError, OptionsError

if TYPE_CHECKING:
    import pandas as pd

    from mlclf.report_details import ReportDetails


@dataclass(frozen=True)
class RankingFigures:
    """Figures that need no threshold.

    Parameters
    ----------
    mean_average_precision : float
        Mean average precision of the labels that apply to some row.
    label_ranking_average_precision : float
        Mean over rows of the average precision of a row's labels.
    precision_at : dict of int to float
        Share of true labels among the k most probable ones, for each k.
    calibration_error : float
        Expected calibration error over all known cells.
    """

    mean_average_precision: float
    label_ranking_average_precision: float
    precision_at: dict[int, float]
    calibration_error: float


@dataclass(frozen=True, eq=False)
class Report:
    """Figures of a model on labelled rows; ``print`` shows them as a table.

    The attributes ``micro_f1``, ``macro_f1``, ``weighted_f1``, ``samples_f1``, ``subset_accuracy`` and
    ``hamming_loss`` are those at the model's own thresholds; ``at_half`` holds the same at 0.5.

    Parameters
    ----------
    names : tuple of str or int, length n_labels
        Label names in column order.
    n_samples : int
    n_unknown : int
        Cells left out because nobody knows them.
    n_dropped : int
        True labels that the label space lacks; they count as missed.
    n_empty : int
        Rows without true labels.
    support : ndarray of int64, shape (n_labels,)
        Rows to which each label applies.
    thresholds : ndarray of float32, shape (n_labels,)
    rule : str
        How the thresholds were found.
    top_k : int or None
        Most labels that a row may have.
    tuned, at_half : DecisionFigures
        At the thresholds, and at 0.5.
    average_precision : ndarray of float64, shape (n_labels,)
        NaN for a label that applies to no row.
    ranking : RankingFigures
    policy : Policy
    details : ReportDetails or None
        What :meth:`to_html` shows beside figures; ``evaluate`` keeps it, :func:`mlclf.metrics.score` alone does not.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> from mlclf.metrics import score
    >>> from mlclf.thresholds import Thresholds
    >>> space = LabelSpace(("anger", "joy"))
    >>> p = np.array([[0.4, 0.9], [0.1, 0.2]])
    >>> report = score(p, space.encode([["anger", "joy"], []]), Thresholds.per_label([0.3, 0.5]), names=space.names)
    >>> report.micro_f1, round(report.at_half.micro.f1, 3)
    (1.0, 0.667)
    """

    names: tuple[str | int, ...]
    n_samples: int
    n_unknown: int
    n_dropped: int
    n_empty: int
    support: NDArray[np.int64]
    thresholds: NDArray[np.float32]
    rule: str
    top_k: int | None
    tuned: DecisionFigures
    at_half: DecisionFigures
    average_precision: NDArray[np.float64]
    ranking: RankingFigures
    policy: Policy
    details: ReportDetails | None = None

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.names)

    @property
    def micro_f1(self) -> float:
        """F1 over all cells."""
        return self.tuned.micro.f1

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels."""
        return self.tuned.macro.f1

    @property
    def weighted_f1(self) -> float:
        """Mean F1 of the labels, weighted by support."""
        return self.tuned.weighted.f1

    @property
    def samples_f1(self) -> float:
        """Mean F1 of the rows."""
        return self.tuned.samples.f1

    @property
    def subset_accuracy(self) -> float:
        """Share of rows whose whole label set is right."""
        return self.tuned.subset_accuracy

    @property
    def hamming_loss(self) -> float:
        """Share of known cells that are wrong."""
        return self.tuned.hamming_loss

    @property
    def mean_average_precision(self) -> float:
        """Mean average precision of the labels that apply to some row."""
        return self.ranking.mean_average_precision

    @property
    def label_ranking_average_precision(self) -> float:
        """Mean over rows of the average precision of a row's labels."""
        return self.ranking.label_ranking_average_precision

    @property
    def precision_at(self) -> dict[int, float]:
        """Share of true labels among the k most probable ones, for each k."""
        return self.ranking.precision_at

    @cached_property
    def never_predicted(self) -> tuple[str | int, ...]:
        """Labels that apply to some row and are predicted for none."""
        missed = np.flatnonzero((self.support > 0) & (self.tuned.labels.predicted == 0))
        return tuple(self.names[column] for column in missed)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON-ready values.

        Returns
        -------
        dict
            The figures of the attributes at the top; ``tuned`` and ``at_half`` with all averages; ``policy``; and in
            ``labels`` a dictionary for each label. A figure that is not defined is None.
        """
        figures = {name: getattr(self, name) for name in _HEADLINES}
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {
            **{name: _plain(value) for name, value in figures.items()},
            "precision_at": {str(k): _plain(value) for k, value in self.precision_at.items()},
            "calibration_error": _plain(self.ranking.calibration_error),
            **counts,
            "rule": self.rule,
            "top_k": self.top_k,
            "tuned": _averages(self.tuned),
            "at_half": _averages(self.at_half),
            "policy": {**asdict(self.policy), "text": self.policy.describe()},
            "labels": self._label_rows(),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return the figures of each label as a table.

        Returns
        -------
        DataFrame
            A row for each label, indexed by name: ``support``, ``threshold``, ``predicted``, ``precision``,
            ``recall``, ``f1``, ``f1_at_half``, ``average_precision``.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError(
                "Report.to_frame needs pandas: pip install pandas. to_dict() works without."
            ) from error
        return pd.DataFrame(self._columns(), index=pd.Index(list(self.names), name="label"))

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one HTML file that needs nothing beside it and loads nothing.

        It has the figures, a sortable table of labels, curves over thresholds, a calibration plot, labels that go
        together or are taken for each other, and the rows in which wrong decisions cost most. A report that does not
        hold some of it says so in its place.

        Parameters
        ----------
        path : path
            File to write or replace; folders above it are made.

        Raises
        ------
        OptionsError
            If there is a folder of that name.
        """
        from mlclf.report_page import page

        target = Path(path)
        if target.is_dir():
            raise OptionsError(f"{str(target)!r} is a folder: to_html needs the name of a file, such as 'report.html'.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page(self), encoding="utf-8")

    def __str__(self) -> str:
        from mlclf.report_text import report_text

        return report_text(self)

    def _columns(self) -> dict[str, NDArray[Any]]:
        labels: LabelFigures = self.tuned.labels
        return {
            "support": self.support,
            "threshold": self.thresholds,
            "predicted": labels.predicted,
            "precision": labels.precision,
            "recall": labels.recall,
            "f1": labels.f1,
            "f1_at_half": self.at_half.labels.f1,
            "average_precision": self.average_precision,
        }

    def _label_rows(self) -> list[dict[str, Any]]:
        columns = {name: [_plain(value) for value in values.tolist()] for name, values in self._columns().items()}
        rows = zip(*columns.values(), strict=True)
        return [
            {"label": name, **dict(zip(columns, row, strict=True))} for name, row in zip(self.names, rows, strict=True)
        ]


_HEADLINES = (
    "micro_f1",
    "macro_f1",
    "weighted_f1",
    "samples_f1",
    "subset_accuracy",
    "hamming_loss",
    "mean_average_precision",
    "label_ranking_average_precision",
)
_COUNTS = ("n_samples", "n_labels", "n_unknown", "n_dropped", "n_empty")


def _averages(figures: DecisionFigures) -> dict[str, Any]:
    """Return the averages and row figures of one set of decisions."""
    averages: dict[str, Average] = {name: getattr(figures, name) for name in ("micro", "macro", "weighted", "samples")}
    return {
        **{name: {key: _plain(value) for key, value in asdict(each).items()} for name, each in averages.items()},
        "subset_accuracy": _plain(figures.subset_accuracy),
        "hamming_loss": _plain(figures.hamming_loss),
        "empty_predicted": figures.empty_predicted,
    }


def _plain(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value
