"""Replay: a sample of the rows a model has learned from, kept to be learned from again beside new ones.

Training on new rows alone overwrites what earlier ones taught (McCloskey and Cohen, 1989,
doi:10.1016/S0079-7421(08)60536-8). Mixing a few of the earlier rows in is the plainest remedy, and hard to beat
(Chaudhry et al., 2019, "On Tiny Episodic Memories in Continual Learning", arXiv:1902.10486). What is kept here is a
share of all rows seen, so that no part of the past is kept more densely than another; every label that occurs keeps at
least one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mlclf.exceptions import OptionsError
from mlclf.model_selection.stratification import assign_folds
from mlclf.options import Options
from mlclf.rows import Rows
from mlclf.targets import Targets

# The least of 5, 20 and 50 % with which mean average precision on old rows fell by less than a point, both where the
# mix of labels changed and where labels were added (docs/benchmarks/continual.md). Of many rows, max_rows decides.
DEFAULT_SHARE = 0.5


class ReplayOptions(Options):
    """How many of the rows that were learned from are kept for :meth:`mlclf.MultiLabelClassifier.partial_fit`.

    Parameters
    ----------
    share : float
        Share of all rows seen that are kept, in memory, and learned from again with new rows; 0 keeps none.
    max_rows : int
        Most rows that are kept, of training and of validation rows each.

    Examples
    --------
    >>> from mlclf import ReplayOptions
    >>> ReplayOptions(share=0.5).max_rows
    10000
    """

    share: float = Field(default=DEFAULT_SHARE, ge=0, le=1)
    max_rows: int = Field(default=10_000, ge=1)

    def size(self, seen: int) -> int:
        """Return how many of ``seen`` rows are kept."""
        # The small number takes the rounding of 0.1 * 30 = 3.0000000000000004 away.
        return min(math.ceil(self.share * seen - 1e-9), self.max_rows)


def as_replay_options(replay: float | ReplayOptions | None) -> ReplayOptions:
    """Return options from every form in which ``replay=`` is given.

    Parameters
    ----------
    replay : float, ReplayOptions or None
        A share, options, or None for 0.

    Raises
    ------
    OptionsError
        If it is none of them, or a value breaks its rule.

    Examples
    --------
    >>> as_replay_options(0.05).share
    0.05
    """
    if isinstance(replay, ReplayOptions):
        return replay.validated()
    if replay is None:
        return ReplayOptions(share=0)
    if isinstance(replay, float | int) and not isinstance(replay, bool) and 0 <= replay <= 1:
        return ReplayOptions(share=replay)
    raise OptionsError(
        f"replay must be the share of rows that are kept, from 0 to 1, ReplayOptions or None, got {replay!r}."
    )


def shortest_replay(options: ReplayOptions) -> float | ReplayOptions | None:
    """Return the shortest form in which a user would give these options.

    Examples
    --------
    >>> shortest_replay(ReplayOptions(share=0.2)), shortest_replay(ReplayOptions(share=0)) is None
    (0.2, True)
    """
    if options != ReplayOptions(share=options.share):
        return options
    return options.share or None


@dataclass(frozen=True)
class KeptRows:
    """A sample of the rows of one kind, and how many it stands for.

    Parameters
    ----------
    rows : Rows
    seen : int
        Rows that the sample was drawn from.
    """

    rows: Rows
    seen: int = 0

    def with_new(self, new: Rows, options: ReplayOptions, rng: np.random.Generator) -> KeptRows:
        """Return a sample of the rows seen so far and of new ones, each thinned to the same share."""
        seen = self.seen + len(new)
        room = options.size(seen)
        of_old = round(room * self.seen / seen) if seen else 0
        old = sample(self.rows, of_old, rng)
        return KeptRows(old.followed_by(sample(new, room - of_old, rng)), seen)

    def thinned(self, options: ReplayOptions, rng: np.random.Generator) -> KeptRows:
        """Return no more rows than the options would keep."""
        return replace(self, rows=sample(self.rows, options.size(self.seen), rng))

    def widened(self, n_labels: int) -> KeptRows:
        """Return the sample with further labels that are not known."""
        return replace(self, rows=self.rows.widened(n_labels))


@dataclass(frozen=True)
class ReplayBuffer:
    """The rows that a model keeps: training rows to learn from again, validation rows to tune on again.

    They are kept apart so that thresholds are never tuned on rows that the model was trained on.

    Parameters
    ----------
    training, validation : KeptRows
    """

    training: KeptRows
    validation: KeptRows

    @classmethod
    def empty(cls, n_labels: int) -> ReplayBuffer:
        """Return a buffer that has seen nothing."""
        nothing = KeptRows(Rows.none(n_labels))
        return cls(nothing, nothing)

    def with_new(self, training: Rows, validation: Rows, options: ReplayOptions, seed: int) -> ReplayBuffer:
        """Return the buffer after new rows were learned from and tuned on; the same for the same seed."""
        rng = np.random.default_rng([seed, self.training.seen])
        return ReplayBuffer(
            self.training.with_new(training, options, rng), self.validation.with_new(validation, options, rng)
        )

    def thinned(self, options: ReplayOptions, seed: int) -> ReplayBuffer:
        """Return no more rows than the options would keep."""
        rng = np.random.default_rng([seed, self.training.seen])
        return ReplayBuffer(self.training.thinned(options, rng), self.validation.thinned(options, rng))

    def widened(self, n_labels: int) -> ReplayBuffer:
        """Return the buffer with further labels, of which nobody knows whether they apply to the rows kept."""
        return ReplayBuffer(self.training.widened(n_labels), self.validation.widened(n_labels))


def sample(rows: Rows, n_rows: int, rng: np.random.Generator) -> Rows:
    """Return some rows in their order, each label in proportion and with one row at least.

    Parameters
    ----------
    rows : Rows
    n_rows : int
        Number of rows wanted; all where there are no more. If it is below the number of labels, the rarest labels
        are sure to have a row.
    rng : Generator
    """
    if n_rows >= len(rows):
        return rows
    sizes = np.array([n_rows, len(rows) - n_rows])
    first = _one_row_a_label(rows.targets, n_rows, rng)
    return rows.take(np.flatnonzero(assign_folds(rows.targets.indicator, sizes, rng, first) == 0))


def _one_row_a_label(targets: Targets, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows that have every label between them: rare labels first, each row for all labels that it has."""
    by_label = targets.indicator.tocsc()
    covered = np.zeros(targets.n_labels, dtype=np.bool_)
    chosen: list[int] = []
    for label in np.argsort(targets.positives, kind="stable"):
        candidates = by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]
        if covered[label] or not len(candidates) or len(chosen) == most:
            continue
        row = int(rng.choice(candidates))
        chosen.append(row)
        covered[targets.indicator.indices[targets.indicator.indptr[row] : targets.indicator.indptr[row + 1]]] = True
    return np.array(chosen, dtype=np.int64)
