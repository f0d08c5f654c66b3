"""Splits in which rare labels stand on both sides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.labels import LabelSpace, Targets
from mlclf.model_selection.rows import indexable, n_rows, take
from mlclf.model_selection.stratification import assign_folds

RandomState: TypeAlias = int | np.random.RandomState | np.random.Generator | None


def stratified_split(
    targets: Targets, test_size: float | int, seed: RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows in two, each label in proportion.

    A row with the only positive of a label goes to the training part, as long as that has room. Cells that are not
    known count as negative.

    Parameters
    ----------
    targets : Targets
        Of length n_samples.
    test_size : float or int
        Share of the rows between 0 and 1, rounded to whole rows, or their number.
    seed : int, RandomState, Generator or None
        The same int gives the same split; None a new one at each call.

    Returns
    -------
    train_rows : ndarray of int64, shape (n_samples - n_test,)
        Ascending.
    test_rows : ndarray of int64, shape (n_test,)
        Ascending.

    Raises
    ------
    OptionsError
        If either part would be empty.

    Examples
    --------
    >>> targets = LabelSpace(("fear", "joy")).encode([["joy"], ["joy"], ["fear"], [], ["joy"], ["joy"], [], []])
    >>> train, test = stratified_split(targets, 0.25, seed=0)
    >>> len(train), len(test), targets.take(test).positives.tolist()
    (6, 2, [0, 1])
    """
    n_test = _test_rows(test_size, len(targets))
    sizes = np.array([len(targets) - n_test, n_test])
    only = np.flatnonzero(targets.positives == 1)
    first = np.flatnonzero(targets.indicator[:, only].sum(axis=1))[: sizes[0]]
    folds = assign_folds(targets.indicator, sizes, _generator(seed), first)
    return np.flatnonzero(folds == 0), np.flatnonzero(folds == 1)


def train_test_split(
    X: Any, Y: Any, *others: Any, test_size: float | int = 0.25, random_state: RandomState = None
) -> tuple[Any, ...]:
    """Divide texts and labels in two, each label in proportion.

    Parameters
    ----------
    X : sequence of str, length n_samples
    Y : label lists, array, DataFrame or sparse matrix
        Any form of :meth:`mlclf.labels.LabelSpace.infer`.
    *others : sequences, arrays, frames or sparse matrices of length n_samples
        Whatever else is to be divided, for example sample weights.
    test_size : float or int, default=0.25
        Share of the rows between 0 and 1, rounded to whole rows, or their number.
    random_state : int, RandomState, Generator or None
        The same int gives the same split.

    Returns
    -------
    X_train, X_test, Y_train, Y_test, ... : as given
        Each of the type it came in, rows in their order.

    Raises
    ------
    InvalidInputError
        If Y has none of the forms, or lengths differ.
    OptionsError
        If either part would be empty.

    Examples
    --------
    >>> texts, labels = ["a", "b", "c", "d"], [["joy"], ["joy"], [], []]
    >>> X_train, X_test, Y_train, Y_test = train_test_split(texts, labels, test_size=0.5, random_state=0)
    >>> sorted(Y_train), sorted(Y_test)
    ([[], ['joy']], [[], ['joy']])
    """
    data = [indexable(X), indexable(Y), *map(indexable, others)]
    targets = _read(Y, n_rows(data[0]))
    for number, other in enumerate(data[2:], start=3):
        if n_rows(other) != len(targets):
            raise InvalidInputError(
                f"Argument {number} of train_test_split has {n_rows(other)} rows, X and Y have {len(targets)}."
            )
    parts = stratified_split(targets, test_size, random_state)
    return tuple(take(part, rows) for part in data for rows in parts)


@dataclass(frozen=True)
class MultilabelStratifiedKFold:
    """Folds for cross-validation with each label in proportion; usable wherever scikit-learn takes ``cv``.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2. Their sizes differ by one row at most.
    shuffle : bool, default=False
        Whether chance decides which of the rows of a label come together; otherwise their order does.
    random_state : int, RandomState, Generator or None
        Seed of the shuffling.

    Raises
    ------
    OptionsError
        If ``n_splits`` is below 2, or ``random_state`` is given without ``shuffle``.

    Examples
    --------
    >>> folds = MultilabelStratifiedKFold(n_splits=2)
    >>> labels = [["joy"], ["joy"], ["fear", "joy"], ["fear"]]
    >>> [test.tolist() for _, test in folds.split(["a", "b", "c", "d"], labels)]
    [[1, 2], [0, 3]]
    """

    n_splits: int = 5
    shuffle: bool = False
    random_state: RandomState = None

    def __post_init__(self) -> None:
        if not _is_int(self.n_splits) or self.n_splits < 2:
            raise OptionsError(f"n_splits must be an int of at least 2, got {self.n_splits!r}.")
        if self.random_state is not None and not self.shuffle:
            raise OptionsError("random_state has no effect without shuffle. Set shuffle=True, or random_state=None.")

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the training rows and the test rows of each fold.

        Parameters
        ----------
        X : sequence, length n_samples, or None
            Only its length is looked at.
        y : label lists, array, DataFrame or sparse matrix
            Any form of :meth:`mlclf.labels.LabelSpace.infer`.
        groups : None
            Not used; scikit-learn passes it.

        Yields
        ------
        train_rows, test_rows : ndarray of int64
            Ascending.

        Raises
        ------
        InvalidInputError
            If y has none of the forms, another length than X, or fewer rows than there are folds.
        """
        targets = _read(y, None if X is None else n_rows(X))
        if len(targets) < self.n_splits:
            raise InvalidInputError(
                f"{self.n_splits} folds need at least as many rows, got {len(targets)}. Lower n_splits."
            )
        sizes = np.full(self.n_splits, len(targets) // self.n_splits)
        sizes[: len(targets) % self.n_splits] += 1
        folds = assign_folds(targets.indicator, sizes, _generator(self.random_state) if self.shuffle else None)
        for fold in range(self.n_splits):
            yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def _read(Y: Any, n_samples: int | None) -> Targets:
    return LabelSpace.infer(Y).encode(Y, n_samples=n_samples)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _test_rows(test_size: float | int, n_samples: int) -> int:
    """Return how many of the rows are the test part."""
    if not _is_int(test_size) and not (isinstance(test_size, (float, np.floating)) and 0 < test_size < 1):
        raise OptionsError(f"test_size must be a share between 0 and 1 or a number of rows, got {test_size!r}.")
    n_test = int(test_size) if _is_int(test_size) else math.floor(n_samples * test_size + 0.5)
    if not 0 < n_test < n_samples:
        raise OptionsError(
            f"test_size={test_size} leaves {n_samples - n_test} of {n_samples} rows for training and {n_test} for "
            "testing; both parts need a row."
        )
    return n_test


def _generator(random_state: RandomState) -> np.random.Generator:
    """Return a generator; a RandomState or Generator moves on, so that its next use gives another split."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    if random_state is None or _is_int(random_state) or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    raise OptionsError(f"random_state must be an int, RandomState, Generator or None, got {random_state!r}.")
