"""Errors: the rows in which wrong decisions were the surest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlclf.probabilities import Probabilities
from mlclf.report_details.cells import WrongCells, row_blocks, wrong_cells
from mlclf.targets import Targets
from mlclf.thresholds import Thresholds

# Characters kept of a text, and wrong labels kept of a row.
LONGEST_TEXT = 1000
MOST_LABELS = 20

# The same edge as in the logarithmic loss of the validation rows.
_EDGE = 1e-7


@dataclass(frozen=True)
class WrongLabel:
    """A label about which a row was decided wrongly.

    Parameters
    ----------
    column : int
    applies : bool
        True where it applies and is not predicted, False where it is predicted and does not apply.
    probability : float
        Of the label, in that row.
    """

    column: int
    applies: bool
    probability: float


@dataclass(frozen=True)
class CostlyRow:
    """A row with wrong decisions.

    Parameters
    ----------
    row : int
        Its number among the evaluated ones, from 0.
    cost : float
        Sum of the logarithmic loss of its wrong decisions, in nats.
    true : tuple of int
        Columns of labels that apply; at most 20.
    wrong : tuple of WrongLabel
        The most costly first; at most 20.
    text : str or None
        The first 1,000 characters; None where texts were not asked for.
    cut : bool
        Whether the text was longer.
    """

    row: int
    cost: float
    true: tuple[int, ...]
    wrong: tuple[WrongLabel, ...]
    text: str | None = None
    cut: bool = False


def costly_rows(
    probabilities: Probabilities,
    targets: Targets,
    thresholds: Thresholds,
    n_rows: int,
    texts: Sequence[str] | None = None,
) -> tuple[CostlyRow, ...]:
    """Find the rows in which wrong decisions cost most.

    A wrong decision costs the logarithmic loss of its cell: a label that was thought impossible and applies, or certain
    and does not, costs most. Rows in which everything was decided rightly cost nothing.

    Parameters
    ----------
    probabilities : ndarray or csr_array of float32, shape (n_samples, n_labels)
        As :func:`mlclf.probabilities.checked_probabilities` returns them.
    targets : Targets
        Of the same shape; unknown cells are left out.
    thresholds : Thresholds
    n_rows : int
        At most as many are returned.
    texts : sequence of str, length n_samples, optional
        Of which the found rows keep the beginning.

    Returns
    -------
    tuple of CostlyRow
        The most costly first.

    Examples
    --------
    >>> import numpy as np
    >>> from mlclf.labels import LabelSpace
    >>> targets = LabelSpace(("a", "b")).encode([["a"], ["b"]])
    >>> p = np.array([[0.75, 0.25], [0.75, 0.125]], dtype=np.float32)
    >>> row, = costly_rows(p, targets, Thresholds.fixed(2), 5)
    >>> row.row, round(row.cost, 2), row.wrong[0]
    (1, 3.47, WrongLabel(column=1, applies=True, probability=0.125))
    """
    costs = np.zeros(len(targets))
    for rows in row_blocks(probabilities):
        cells = wrong_cells(probabilities, targets, thresholds, rows)
        costs[rows] = np.bincount(cells.rows, weights=_costs(cells), minlength=len(rows))
    worst = np.argsort(-costs, kind="stable")[:n_rows]
    return tuple(
        _costly_row(row, wrong_cells(probabilities, targets, thresholds, np.array([row])), targets, texts)
        for row in worst[costs[worst] > 0].tolist()
    )


def _costs(cells: WrongCells) -> NDArray[np.float64]:
    """Return the logarithmic loss of each cell."""
    p = np.where(cells.applies, cells.probabilities, 1 - cells.probabilities)
    return np.asarray(-np.log(np.clip(p, _EDGE, 1 - _EDGE)))


def _costly_row(row: int, cells: WrongCells, targets: Targets, texts: Sequence[str] | None) -> CostlyRow:
    costs = _costs(cells)
    worst = np.argsort(-costs, kind="stable")[:MOST_LABELS]
    fields = (cells.columns[worst], cells.applies[worst], cells.probabilities[worst])
    true = targets.indicator.indices[targets.indicator.indptr[row] : targets.indicator.indptr[row + 1]]
    text = None if texts is None else texts[row]
    return CostlyRow(
        row=row,
        cost=float(costs.sum()),
        true=tuple(true[:MOST_LABELS].tolist()),
        wrong=tuple(WrongLabel(*values) for values in zip(*(field.tolist() for field in fields), strict=True)),
        text=None if text is None else text[:LONGEST_TEXT],
        cut=text is not None and len(text) > LONGEST_TEXT,
    )
