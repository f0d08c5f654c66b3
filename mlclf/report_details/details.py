"""Details: all that the page of a report shows beside its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.probabilities import checked_probabilities
from mlclf.reliability import Reliability, reliability
from mlclf.report_details.curves import ThresholdCurves, threshold_curves
from mlclf.report_details.errors import CostlyRow, costly_rows
from mlclf.report_details.overlap import LabelOverlap, label_overlap
from mlclf.targets import Targets
from mlclf.thresholds import Thresholds

# Labels, those with most support, that have curves of their own and are compared in pairs.
MOST_LABELS = 200

# Costly rows that are listed without their texts where no texts were asked for.
LISTED_ROWS = 20


@dataclass(frozen=True, eq=False)
class ReportDetails:
    """What the page of a report shows beside figures: a few hundred kilobytes, however many rows and labels there are.

    Parameters
    ----------
    curves : ThresholdCurves
        Of the 200 labels with most support, and of all labels together.
    reliability : Reliability
    overlap : LabelOverlap
        Of the same 200 labels.
    errors : tuple of CostlyRow
        The rows in which wrong decisions cost most.
    kept_cells : int or None
        Most probable labels of each row that the figures were computed from; None where all were.
    """

    curves: ThresholdCurves
    reliability: Reliability
    overlap: LabelOverlap
    errors: tuple[CostlyRow, ...]
    kept_cells: int | None = None


def make_details(
    probabilities: Any,
    targets: Targets,
    thresholds: Thresholds,
    *,
    texts: Sequence[str] | None = None,
    error_texts: int = 0,
) -> ReportDetails:
    """Compute what the page of a report shows beside its figures.

    ``evaluate`` does it; this is for probabilities from elsewhere:
    ``replace(score(p, targets, thresholds), details=make_details(p, targets, thresholds))``.

    Parameters
    ----------
    probabilities : array-like or sparse matrix, shape (n_samples, n_labels)
        Marginal probabilities; a cell that a sparse matrix does not store has probability 0.
    targets : Targets
        Of the same shape; unknown cells are left out.
    thresholds : Thresholds
    texts : sequence of str, length n_samples, optional
        Needed only where ``error_texts`` is not 0.
    error_texts : int
        Number of rows, the most costly ones, whose texts are kept. With 0, 20 rows are listed by their numbers.

    Returns
    -------
    ReportDetails

    Raises
    ------
    OptionsError
        If ``error_texts`` is no whole number of at least 0.
    InvalidInputError
        If probabilities or texts do not fit the targets.

    Examples
    --------
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["b"]])
    >>> details = make_details([[0.9, 0.2], [0.8, 0.3]], targets, Thresholds.fixed(2), texts=["x", "y"], error_texts=1)
    >>> details.errors[0].text, details.overlap.confused.tolist()
    ('y', [[0, 0], [1, 0]])
    """
    check_error_texts(error_texts)
    checked = checked_probabilities(probabilities, targets.n_labels, len(targets))
    if error_texts and (texts is None or len(texts) != len(targets)):
        found = "none" if texts is None else len(texts)
        raise InvalidInputError(f"error_texts={error_texts} needs a text for each of {len(targets)} rows, got {found}.")
    thresholds = thresholds.for_labels(targets.n_labels)
    columns = np.argsort(-targets.positives, kind="stable")[:MOST_LABELS]
    sparse = None if isinstance(checked, np.ndarray) else int(np.diff(checked.indptr).max(initial=0))
    kept = texts if error_texts else None
    return ReportDetails(
        curves=threshold_curves(checked, targets, columns),
        reliability=reliability(checked, targets),
        overlap=label_overlap(checked, targets, thresholds, columns),
        errors=costly_rows(checked, targets, thresholds, error_texts or LISTED_ROWS, kept),
        kept_cells=sparse,
    )


def check_error_texts(error_texts: Any) -> None:
    """Refuse a number of texts that is none.

    Parameters
    ----------
    error_texts : int

    Raises
    ------
    OptionsError
        If it is no whole number of at least 0.

    Examples
    --------
    >>> check_error_texts(20)
    """
    if not isinstance(error_texts, int | np.integer) or isinstance(error_texts, bool) or error_texts < 0:
        raise OptionsError(
            f"error_texts must be a number of rows whose texts the report keeps, 0 for none, got {error_texts!r}."
        )
